"""The training of a scorer: imports torch, numpy and safetensors only."""
