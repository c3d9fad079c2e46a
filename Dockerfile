# One image for every role: gateway, worker, and the commands that set things up.
#   docker build -t tailrace .
# For a build that cannot change under you, name the base by its digest:
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:… -t tailrace .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 SOURCE_DATE_EPOCH=1
WORKDIR /src
COPY deploy/build.lock deploy/requirements.lock ./
# Without bytecode: it carries times, and the image would differ with each build.
RUN python -m venv /build && /build/bin/pip install --no-compile --require-hashes -r build.lock \
    && python -m venv /venv && /venv/bin/pip install --no-compile --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY bus bus
COPY gateway gateway
COPY workers workers
COPY tailrace tailrace
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /venv/bin/pip install --no-compile --no-deps --no-index /wheels/*.whl \
    && /venv/bin/pip uninstall --yes pip setuptools

FROM ${PYTHON_IMAGE}
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --system --no-create-home --uid 10001 tailrace \
    && install -d -o 10001 -g 10001 /secrets
COPY --from=build /venv /venv
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["tailrace"]
CMD ["gateway"]
