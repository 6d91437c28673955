# The command line of defectops in an image: `docker build -t defectops .`
#
# Pip's own configuration (another index, PyTorch's CPU wheels) goes in as a build secret and stays
# out of every layer: `docker build --secret id=pip,src=pip.conf .`
# For a build that can be repeated bit by bit, name the base image by its digest:
# `--build-arg PYTHON_IMAGE=python:3.11-slim@sha256:...`
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /build
COPY requirements/lock.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/venv/bin/pip install -q -r requirements/lock.txt
COPY pyproject.toml README.md LICENSE ./
COPY defectops defectops
COPY pipelines pipelines
RUN /opt/venv/bin/pip install -q --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
COPY --from=builder /opt/venv /opt/venv
# The user has no home of its own and the root file system may be read-only: whatever a library
# wants to keep goes to /tmp (`docker run --read-only --tmpfs /tmp ...`).
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    TMPDIR=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    DVC_SITE_CACHE_DIR=/tmp/dvc \
    DVC_NO_ANALYTICS=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=1
WORKDIR /project
USER 10001:10001
# A command that ends has no health to check.
HEALTHCHECK NONE
ENTRYPOINT ["defectops"]
CMD ["--help"]
