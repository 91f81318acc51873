"""Addresses: equal where the answers must be, and different where anything that decides them is."""

from dataclasses import replace

import pytest

from codestrata.experiment.archive import Archive, Model, fingerprint_component
from codestrata.lab import open_lab
from codestrata.methods import METHODS, build_component
from codestrata.progress import Silence
from codestrata.settings.tree import build_settings

MODEL = Model(base="b", kind="lora", component="c")


@pytest.fixture(scope="module")
def lab(long_tree):
    return open_lab(build_settings(long_tree(2)), Silence())


def test_an_address_is_of_base_component_data_and_decoding(lab):
    early, late = lab.tasks
    address = Archive(lab).locate(MODEL, early, "test")
    assert address == Archive(lab).locate(replace(MODEL), early, "test")
    others = [
        Archive(lab).locate(replace(MODEL, base="x"), early, "test"),
        Archive(lab).locate(replace(MODEL, kind="layers"), early, "test"),
        Archive(lab).locate(replace(MODEL, component="x"), early, "test"),
        Archive(lab).locate(Model(base="b"), early, "test"),
        Archive(lab).locate(MODEL, late, "test"),
        Archive(lab).locate(MODEL, early, "test", apart=2),
        Archive(lab).locate(MODEL, early, "test", trained_on=[early]),
        Archive(lab).locate(MODEL, early, "test", trained_on=[late, early]),
    ]
    assert address not in others
    assert len(set(others)) == len(others)


def change_example(lab):
    early, late = lab.tasks
    changed = replace(early, test=(replace(early.test[0], prompt="else"), *early.test[1:]))
    return replace(lab, tasks=(changed, late))


def change_limit(lab):
    training = replace(lab.settings.training, max_prompt_tokens=7)
    return replace(lab, settings=replace(lab.settings, training=training))


def change_batches(lab):
    decoding = replace(lab.settings.decoding, batch_size=1)  # other neighbours, perhaps other last bits
    return replace(lab, settings=replace(lab.settings, decoding=decoding))


@pytest.mark.parametrize("change", [change_example, change_limit, change_batches])
def test_other_data_and_other_decoding_have_other_addresses(lab, change):
    other = Archive(change(lab)).locate(MODEL, lab.tasks[0], "test")
    assert other != Archive(lab).locate(MODEL, lab.tasks[0], "test")


def test_a_company_of_all_is_no_company_apart(lab):
    archive, task = Archive(lab), lab.tasks[0]
    everyone = archive.locate(MODEL, task, "test", apart=len(task.test))
    assert everyone == archive.locate(MODEL, task, "test")


def test_what_was_kept_is_found(lab):
    archive = Archive(lab)
    address = archive.locate(MODEL, lab.tasks[0], "test")
    assert archive.find(address) is None
    cell = object()
    archive.keep(address, cell)
    assert archive.find(address) is cell


def test_a_component_is_hashed_as_it_is_now(lab):
    component = build_component(METHODS["lora"], lab.base, lab.settings)
    component.attach("first", seed=0)
    component.attach("same", seed=0)
    component.attach("other", seed=1)
    before = fingerprint_component(component, "first")
    assert before == fingerprint_component(component, "same")
    assert before != fingerprint_component(component, "other")
    component.activate("first")
    assert fingerprint_component(component, "first") == before
    next(iter(component.parameters("first").values())).data.flatten()[0] += 1e-6
    assert fingerprint_component(component, "first") != before
