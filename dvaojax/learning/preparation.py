"""Matrices that all passes of a step share: joined and cast once, not for every micro-batch."""

from functools import partial
from typing import Any

from dvaojax import models
from dvaojax.learning.gradients import Preparation
from dvaojax.learning.policy_loss import PolicyBatch
from dvaojax.models import ModelConfig, Params


def joined_once(model: ModelConfig) -> Preparation:
    """The preparation of a decoder's parameters, for `make_train_step` and the warm start."""

    def join(params: Params, batch: Any) -> models.JoinedParams:
        is_packed = isinstance(batch, PolicyBatch) and batch.experience.packed is not None
        unrolled = models.unrolls_layers(model, is_packed=is_packed)
        return models.join(model, params, is_unrolled=unrolled)

    return Preparation(join=join, cast=partial(models.cast_joined, model))
