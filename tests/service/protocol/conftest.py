"""The service with both of its ports, shared by a file's tests."""

from collections.abc import Iterator

import pytest
from support.stack import Stack, free_port, running_stack


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment = {"FOVEA_GRPC_PORT": str(free_port())}
    with running_stack(tmp_path_factory.mktemp("service"), environment) as stack:
        yield stack
