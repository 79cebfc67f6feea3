# vaco-curate in a container, on CPUs:
#   docker build -t vaco-curate .
#   docker run --rm -v "$PWD":/data vaco-curate score dataset.hdf5
# For a GPU, begin from an image that has torch with CUDA, and leave out the constraint. gcc stays: the kernels
# for CPUs are compiled when they are first used.
FROM python:3.12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN pip install --no-cache-dir -c /src/constraints.txt '/src[s3]' && rm -rf /src
WORKDIR /data
ENTRYPOINT ["vaco-curate"]
