"""The video API that other programs speak: OpenAI's videos, images and models, on this server's jobs."""
