"""Optuna's words are the user's to hear where they are about the user's own studies."""

from __future__ import annotations

import logging

import optuna
import pytest

from autoprune.searching.study import finished
from tests.searching.conftest import engine_for


def test_a_search_says_nothing_of_optuna_s_and_leaves_its_level(caplog: pytest.LogCaptureFixture) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.INFO)
    try:
        engine = engine_for("chain", trials=2, strategy="random")
        engine.search()
        assert len(finished(engine.study)) == 2 and optuna.logging.get_verbosity() == logging.INFO
        assert "study created" not in caplog.text
        optuna.create_study()
        assert "study created" in caplog.text
    finally:
        optuna.logging.set_verbosity(before)
