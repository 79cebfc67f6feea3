# vaco-curate in a container:
#   docker build -t vaco-curate .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD":/data vaco-curate score dataset.hdf5
# torch brings CUDA's libraries, which are most of the image's 6 GB. For CPUs alone, give PyTorch's index of CPU
# builds: --build-arg PIP_EXTRA_INDEX_URL=...
# gcc stays: the kernels for CPUs are compiled when they are first used.
FROM python:3.12-slim
ARG PIP_EXTRA_INDEX_URL
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN pip install --no-cache-dir -c /src/constraints.txt '/src[s3]' && rm -rf /src
WORKDIR /data
ENTRYPOINT ["vaco-curate"]
