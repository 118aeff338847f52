# `make wheel`, then `docker build -t stadia .`; for NVIDIA GPUs see docs/start/install.md.
FROM python:3.11-slim

# The index of PyTorch with the build for this machine, as https://download.pytorch.org/whl/cu130
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 stadia
COPY constraints.txt dist/*.whl /tmp/
RUN pip install --no-cache-dir --no-deps --constraint /tmp/constraints.txt --index-url "$TORCH_INDEX" torch torchvision \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt "$(echo /tmp/stadia-*.whl)[all]"

USER 1000
WORKDIR /data
ENTRYPOINT ["stadia"]
CMD ["--help"]
