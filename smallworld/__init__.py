"""The world that `wan-mini` knows: flat shapes that move over a plain background, and sentences about them.

Training renders it, benchmarks ask about it, and both import it from here. `names` and `phrases` are data; `world`
draws scenes at random, `outlines` and `render` turn them into pixels, `captions` into sentences. `judge` looks at
pictures and shares only the names with the rest.

Nothing here is imported by the server; nothing here imports the server.
"""
