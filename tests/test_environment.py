"""What a run says about its machine."""

import json
import os
from importlib.metadata import version

import torch

from codestrata.environment import PACKAGES, describe_environment, find_version, name_processor


def test_the_environment_is_plain_and_complete():
    found = describe_environment(torch.device("cpu"))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["device"] == "cpu"
    assert found["device_name"] == name_processor()
    assert found["threads"] == torch.get_num_threads()
    assert found["cpu_count"] == os.cpu_count()
    assert set(found["packages"]) == set(PACKAGES)
    assert found["packages"]["torch"] == version("torch")
    assert found["packages"]["codestrata"] == version("codestrata")


def test_every_package_of_a_number_is_there():
    assert None not in describe_environment(torch.device("cpu"))["packages"].values()


def test_a_package_that_is_not_there_has_no_version():
    assert find_version("codestrata-that-is-not-there") is None


def test_the_processor_has_a_name():
    assert name_processor().strip()
