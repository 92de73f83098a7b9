# The databases of the scenarios.
ARG BASE=debian:bookworm-slim
FROM $BASE
ARG SUITE=bookworm
COPY . /prepare
RUN /prepare/tests/docker/prepare.sh $SUITE postgresql redis-server
