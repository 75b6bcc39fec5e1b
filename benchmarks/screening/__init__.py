"""Score backbones and sources on the labeled images of a target, before anything is trained."""
