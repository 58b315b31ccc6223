"""All operations of this API."""

from wan_mcp.fronts.openai.answers import Answer, Images, Model, Models, Video, VideoDeleted, VideoPage
from wan_mcp.fronts.openai.api import Operation
from wan_mcp.fronts.openai.forms import (
    CreateImage,
    CreateVideo,
    EditImage,
    ExtendVideo,
    ListVideos,
    RemixVideo,
    VideoContent,
)
from wan_mcp.fronts.openai.images import create_image, edit_image
from wan_mcp.fronts.openai.models import list_models, retrieve_model
from wan_mcp.fronts.openai.unsupported import refusing
from wan_mcp.fronts.openai.videos import (
    content_of_video,
    create_video,
    delete_video,
    extend_video,
    list_videos,
    remix_video,
    retrieve_video,
)

__all__ = ["OPERATIONS"]

FILES = ("video/mp4", "image/jpeg")
EDITS = "Videos cannot be edited by a prompt here; remix one with another prompt, or make one from a picture of it."
SYNC = "No call waits for its video here; use POST /v1/videos, and GET /v1/videos/{video_id} until it is completed."
CHARACTERS = "Characters are not supported here; send a picture of one as input_reference, or use a LoRA."
VARIATIONS = "Variations need a prompt here; use POST /v1/images/edits, with a low strength."

OPERATIONS = (
    Operation("POST", "/v1/videos", "create_video", "Make a video", create_video, Video, body=CreateVideo),
    Operation("GET", "/v1/videos", "list_videos", "List videos", list_videos, VideoPage, query=ListVideos),
    Operation(
        "POST", "/v1/videos/edits", "edit_video", "Edit a video (not supported)", refusing(EDITS), Answer,
    ),
    Operation(
        "POST", "/v1/videos/sync", "create_video_and_wait", "Wait for a video (not supported)", refusing(SYNC), Answer,
    ),
    Operation(
        "POST", "/v1/videos/extensions", "extend_video", "Go on from a video, in one file", extend_video, Video,
        body=ExtendVideo,
    ),
    Operation(
        "POST", "/v1/videos/characters", "create_character", "Make a character (not supported)",
        refusing(CHARACTERS), Answer,
    ),
    Operation(
        "GET", "/v1/videos/characters/{character_id}", "get_character", "Get a character (not supported)",
        refusing(CHARACTERS), Answer,
    ),
    Operation("GET", "/v1/videos/{video_id}", "retrieve_video", "Follow a video", retrieve_video, Video),
    Operation("DELETE", "/v1/videos/{video_id}", "delete_video", "Delete a video", delete_video, VideoDeleted),
    Operation(
        "GET", "/v1/videos/{video_id}/content", "download_video", "Download a video", content_of_video, FILES,
        query=VideoContent,
    ),
    Operation(
        "POST", "/v1/videos/{video_id}/remix", "remix_video", "Make a video again, with changes", remix_video, Video,
        body=RemixVideo,
    ),
    Operation(
        "POST", "/v1/images/generations", "create_image", "Make images", create_image, Images, body=CreateImage
    ),
    Operation("POST", "/v1/images/edits", "edit_image", "Change an image", edit_image, Images, body=EditImage),
    Operation(
        "POST", "/v1/images/variations", "vary_image", "Vary an image (not supported)", refusing(VARIATIONS), Answer,
    ),
    Operation("GET", "/v1/models", "list_models", "List models", list_models, Models),
    Operation("GET", "/v1/models/{model}", "retrieve_model", "Look at a model", retrieve_model, Model),
)  # fmt: skip
