"""The training core: what a bare machine with a GPU needs. It imports torch, numpy and safetensors alone."""
