"""Files and folders here and in object stores, their manifests, and engines that work on many of them."""
