"""Pruned networks on disk: safetensors weights and a JSON plan, for a fresh instance of the user's class."""

from autoprune.plan.loading import load
from autoprune.plan.record import Plan, make_plan
from autoprune.plan.saving import PLAN_FILE, WEIGHTS_FILE, check_output, read_plan, save_plan

__all__ = ["PLAN_FILE", "WEIGHTS_FILE", "Plan", "check_output", "load", "make_plan", "read_plan", "save_plan"]
