"""The sections of a study file: frozen, strict, each value checked where it enters."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from autoprune.paths import expanded

Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1, pattern=r"\S")]
Place = Annotated[Name, AfterValidator(expanded)]
Fraction = Annotated[float, Field(gt=0, le=1)]
# TOML and JSON know only lists, so the outer tuple must be lenient; what is in it stays strict.
Lenient = Field(strict=False)


class Section(BaseModel):
    # Inputs are hidden in pydantic's own text, because a storage URL may hold a password.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class ModelConfig(Section):
    """The network: an import path "package.module:function", its arguments and weights.

    `train_on_first_use` is the import path of a callable `(model, dataset, seed) -> History | None`; it
    trains the model where the `weights` file does not exist yet, and the result is saved there. `history` is
    the file of the history that such a training returned, or that was recorded elsewhere; where none is
    named and a method needs one, it is recorded over `history_epochs` of fine-tuning as [training] says.
    """

    factory: Name
    arguments: dict[str, Any] = {}
    weights: Place | None = None
    train_on_first_use: Name | None = None
    history: Place | None = None
    history_epochs: Count = 2

    @model_validator(mode="after")
    def _training_needs_a_file(self) -> Self:
        if self.train_on_first_use is not None and self.weights is None:
            raise ValueError("train_on_first_use needs 'weights', the file to save to")
        return self


class DataConfig(Section):
    """The images, and what a network is judged by on them.

    `metric` is accuracy, mean-iou, pixel-accuracy, r2, or the import path of a function of yours
    `(outputs, labels) -> number`, the mean over a batch; higher is better.

    A count left out means the usual one (1024 and 2000) or as many as there are.

    `mean` and `std` are per channel, for pixels in 0..1. `resize` is the shorter side before the centre
    crop to `image_size`, in pixels. A dataset refuses options that it does not read.
    """

    dataset: Name
    root: Place = "data"
    calibration_images: Count | None = None
    validation_images: Count | None = None
    batch_size: Count = 256
    download: bool = False
    mean: Annotated[tuple[float, ...] | None, Lenient] = None
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...] | None, Lenient] = None
    image_size: Count | None = None
    resize: Count | None = None
    train_root: Place | None = None
    validation_root: Place | None = None
    metric: Name = "accuracy"


class BudgetConfig(Section):
    """Bounds on cost: a float in (0, 1] is a fraction of dense, an integer above 1 is absolute.

    `latency_ms` is in milliseconds, measured on the study's device.
    """

    macs: int | float | None = None
    params: int | float | None = None
    bytes: int | float | None = None
    latency_ms: int | float | None = None

    @field_validator("macs", "params", "bytes", mode="before")
    @classmethod
    def _fraction_or_absolute(cls, value: object) -> object:
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 1
        part = isinstance(value, float) and 0 < value <= 1
        if value is None or whole or part:
            return value
        raise ValueError("should be a fraction of dense in (0, 1] such as 0.5, or an integer above 1")

    @field_validator("latency_ms", mode="before")
    @classmethod
    def _milliseconds(cls, value: object) -> object:
        if value is None or (type(value) in (int, float) and value > 0):  # type: ignore[operator]
            return value
        raise ValueError("should be milliseconds above 0 such as 5.0")

    @property
    def bounds(self) -> dict[str, int | float]:
        """Only the bounds that were set, by name."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


class SearchConfig(Section):
    """What the search may propose. `min_kept` is a hard floor per group, as a fraction of its width.

    `ignore` are patterns of module names that stay dense; `caps` maps such a pattern to the greatest pruning
    rate, 0..1, of the groups that match, also hard.
    `objective` is the cost that the front runs over, beside accuracy. Latency is measured, in batches of
    `latency_batch` inputs, where it is the objective or has a budget.
    """

    trials: Count = 100
    objective: Literal["macs", "params", "latency"] = "macs"
    latency_batch: Count = 1
    budget: BudgetConfig = BudgetConfig()
    multiple_of: Count = 1
    min_kept: Fraction = 0.05
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    criterion: Name = "second-moment"
    criterion_options: dict[str, Any] = {}
    batch_removal: Annotated[tuple[Count, ...], Field(strict=False, min_length=1)] = (1, 2, 4)
    strategy: Name = "knapsack"
    strategy_options: dict[str, Any] = {}
    ignore: Annotated[tuple[Name, ...], Lenient] = ()
    caps: dict[Name, Annotated[float, Field(ge=0, le=1)]] = {}

    @model_validator(mode="after")
    def _batches_are_timed(self) -> Self:
        timed = self.objective == "latency" or self.budget.latency_ms is not None
        if self.latency_batch != 1 and not timed:
            raise ValueError('latency_batch is read where objective = "latency" or budget has latency_ms')
        return self


class ReconstructionConfig(Section):
    """How weights are restored. `damping` is relative to trace(G) / n, and grows with a layer's columns per
    calibration image (`linear_algebra.for_images`).
    """

    method: Name = "sequential"
    options: dict[str, Any] = {}
    damping: Annotated[float, Field(ge=0)] = 1e-3
    batch_norm: bool = False


class RecoveryConfig(Section):
    """Training that follows reconstruction in every trial of the search; none by default."""

    method: Name = "none"
    options: dict[str, Any] = {}


class TrainingConfig(Section):
    """Fine-tuning: what `autoprune finetune` does, and every training step inside a search.

    The loss is `(1 - distillation) CE + distillation T^2 KL(teacher / T || student / T)`; with
    `distillation = 1` no labels are read. For outputs that are no classes, `loss` names other distances from
    labels and teacher; "auto" takes what belongs to the study's metric. `temperature` is T: one number, or a
    pair that it falls between on a cosine over the training. `milestones` are fractions of the epochs, where
    `schedule = "step"` multiplies the learning rate by `gamma`. `momentum` is SGD's, or Adam's first beta;
    Adam decays weights decoupled from the gradient (AdamW). `images` limits the training images to a fixed
    random sample. `augmentation` is a name or the import path of a function that returns a transform of one
    image.
    `workers` are processes that read images, for datasets that are not in memory.
    """

    epochs: Count = 20
    batch_size: Count = 128
    images: Count | None = None
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Lenient] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    loss: Name = "auto"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    distillation: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: float | tuple[float, float] = 4.0
    augmentation: Name = "auto"
    freeze_batch_norm: bool = False
    mixed_precision: Literal["auto", "on", "off"] = "auto"
    workers: Annotated[int, Field(ge=0)] = 0

    def identity(self) -> dict[str, Any]:
        """What must stay the same when a training continues: not the workers, nor the loss where it is left
        open, as before there was a choice."""
        open_loss = {"loss"} if self.loss == type(self).model_fields["loss"].default else set()
        return self.model_dump(mode="json", exclude={"workers", *open_loss})

    @field_validator("temperature", mode="before")
    @classmethod
    def _one_or_two_temperatures(cls, value: object) -> object:
        pair = isinstance(value, list | tuple) and len(value) == 2
        numbers = tuple(value) if isinstance(value, list | tuple) and pair else (value,)
        if not all(type(number) in (int, float) and number > 0 for number in numbers):
            raise ValueError("should be a number above 0, or a pair of them such as [8.0, 1.0]")
        return tuple(map(float, numbers)) if pair else float(numbers[0])

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        fields = type(self).model_fields
        unread = {"milestones", "gamma"} if self.schedule == "cosine" else set()
        if any(getattr(self, name) != fields[name].default for name in unread):
            raise ValueError('milestones and gamma are read where schedule = "step"; set it or remove them')
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones should rise")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError('nesterov needs optimizer = "sgd" and a momentum above 0')
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs should be less than epochs ({self.epochs})")
        if self.distillation == 0 and self.temperature != fields["temperature"].default:
            raise ValueError("temperature is that of the teacher, whom distillation = 0 does not ask")
        if self.distillation == 1 and self.label_smoothing > 0:
            raise ValueError("label_smoothing needs labels, which distillation = 1 does not read")
        return self
