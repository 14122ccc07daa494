"""Models that are sent here: unpacked, converted and tried beside the store, and in it only when they answer."""

from af_inference.uploads.uploads import Uploads

__all__ = ["Uploads"]
