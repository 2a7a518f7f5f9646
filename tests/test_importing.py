"""Imports without collections."""

import gc

import pytest

from pipeline.importing import importing


def test_collections_wait_for_an_import_and_go_on_after_one_that_fails():
    assert gc.isenabled()
    during = []

    def fails():
        with importing():
            during.append(gc.isenabled())
            raise ImportError

    with pytest.raises(ImportError):
        fails()
    assert during == [False]
    assert gc.isenabled()


def test_who_has_none_keeps_it_so():
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
