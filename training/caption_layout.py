"""The layout of `wan-mini-caption`: a small BLIP captioner and its processor.

Pictures of any shape are fitted into 160x160 and padded, never squeezed: a squeezed square would be a rectangle.
"""

from transformers import BlipConfig, BlipForConditionalGeneration, BlipProcessor, PreTrainedTokenizerFast
from transformers.image_utils import PILImageResampling

from training import tokenizer

IMAGE_SIDE = 160
OPENING = "<s>"
OPENING_ID = 3
CAPTION_TOKENS = 32
# Pixels in [0, 1] become (x - 0.5) / 0.5; padding is 0 after that, mid-gray.
PIXEL_MEAN = PIXEL_STD = 0.5


def fresh_captioner(vocabulary: int) -> BlipForConditionalGeneration:
    """An untrained captioner: (B, 3, 160, 160) pixels -> caption tokens."""
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 160,
        "intermediate_size": 320,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "bos_token_id": OPENING_ID,
        "eos_token_id": 1,
        "sep_token_id": 1,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 160,
        "intermediate_size": 480,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIDE,
        "patch_size": 10,
        # BLIP's own default, 1e-10, never leaves zero when trained from scratch.
        "initializer_range": 0.02,
    }
    return BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=vision, projection_dim=64, image_text_hidden_size=64)
    )


def caption_tokenizer() -> PreTrainedTokenizerFast:
    """The words of the generator's tokenizer, every text opened by `<s>`."""
    return tokenizer.build(OPENING)


def processor() -> BlipProcessor:
    """Pixels and words in one object, as `AutoProcessor` loads it."""
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil  # not in every version

    pixels = BlipImageProcessorPil(
        do_resize=True,
        size={"max_height": IMAGE_SIDE, "max_width": IMAGE_SIDE},
        resample=PILImageResampling.BICUBIC,
        do_rescale=True,
        do_normalize=True,
        image_mean=[PIXEL_MEAN] * 3,
        image_std=[PIXEL_STD] * 3,
        do_pad=True,
        pad_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE},
        do_convert_rgb=True,
    )
    return BlipProcessor(pixels, caption_tokenizer())
