"""Overrides and settings, the messages for mistakes, and descriptions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import Field, ValidationError

from hfd.config import Config, DecoderConfig, Section, TrainConfig, UNetConfig
from hfd.config.presets import all_keys, load_config
from hfd.errors import ConfigError


def _mistakes(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_config("desk", overrides)
    return str(error.value).splitlines()


def _mistake(*overrides: str) -> str:
    lines = _mistakes(*overrides)
    assert len(lines) == 1, lines
    return lines[0]


# --- overrides -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=7", "seed", 7),
        ("autoencoder.lmbda=0.01", "autoencoder.lmbda", 0.01),
        ("autoencoder.train.lr=2e-4", "autoencoder.train.lr", 2e-4),
        ("prepare.downscale=null", "prepare.downscale", None),
        ("prepare.downscale=", "prepare.downscale", None),
        ("decoder.train.compile=true", "decoder.train.compile", True),
        ("evaluate.baselines=[jpeg, webp]", "evaluate.baselines", ("jpeg", "webp")),
        ("decoder.unet={patch: 2, channels: [64, 64], blocks: [1, 2]}", "decoder.unet.channels", (64, 64)),
        ("data.uri=/photos/my summer=2024", "data.uri", "/photos/my summer=2024"),
        ("data.uri='5'", "data.uri", "5"),
        ("decoder.train.budget=7 steps", "decoder.train.budget", "7 steps"),
        (" seed =9", "seed", 9),
    ],
)
def test_an_override_is_read_as_yaml(override: str, path: str, value: object) -> None:
    found: object = load_config("desk", [override])
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_an_override_leaves_its_neighbours_alone() -> None:
    before, after = load_config("desk"), load_config("desk", ["decoder.train.lr=0.5"])
    assert after.model_copy(update={"decoder": before.decoder}) == before
    assert after.decoder.train.model_copy(update={"lr": before.decoder.train.lr}) == before.decoder.train


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("postgresql://me@host/db", "postgresql+psycopg2://me@host/db"),
        ("postgresql+psycopg://me@host/db", "postgresql+psycopg://me@host/db"),
        ("http://host:5000", "http://host:5000"),
        ("none", None),
    ],
)
def test_a_tracking_address_names_the_driver_of_postgresql(uri: str, read: str | None) -> None:
    assert load_config("desk", [f"tracking.uri={uri}"]).tracking.uri == read


@pytest.mark.parametrize(("wait", "seconds"), [("90 s", 90.0), ("30 min", 1800.0), ("1.5h", 5400.0)])
def test_a_wait_for_nodes_is_a_time(wait: str, seconds: float) -> None:
    attach = ["cluster.kind=attach", "cluster.address=auto"]
    assert load_config("desk", [*attach, f"cluster.wait={wait}"]).cluster.wait_s == seconds
    assert load_config("desk", attach).cluster.wait_s is None


@pytest.mark.parametrize("wait", ["30", "0 s", "-1 h", "5 steps", "soon", "[1]"])
def test_another_wait_is_a_mistake(wait: str) -> None:
    with pytest.raises(ConfigError, match=r"^cluster\.wait: got .*, expected a time, such as '90 s', '30 min', '2 h'"):
        load_config("desk", ["cluster.kind=attach", "cluster.address=auto", f"cluster.wait={wait}"])


@pytest.mark.parametrize("kind", ["inline", "local"])
def test_a_wait_needs_a_cluster_to_which_nodes_are_added(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"wait: got '2 h', expected null with kind={kind}"):
        load_config("desk", [f"cluster.kind={kind}", "cluster.wait=2 h"])


def test_the_last_of_two_overrides_wins() -> None:
    assert load_config("desk", ["seed=1", "seed=2"]).seed == 2


def test_a_whole_section_given_is_merged_with_later_keys() -> None:
    config = load_config("desk", ["decoder.process={kind: diffusion, s: 0.3}", "decoder.process.predict=eps"])
    assert (config.decoder.process.s, config.decoder.process.predict) == (0.3, "eps")


@pytest.mark.parametrize("override", ["seed", "=5", "  =5", ""])
def test_an_override_without_a_key_or_value(override: str) -> None:
    assert _mistake(override).startswith(f"override: got {override!r}, expected key=value")


def test_an_override_that_is_no_yaml() -> None:
    assert _mistake("data.uri=[unclosed").startswith("data.uri: got '[unclosed', expected a YAML value")


def test_unreadable_overrides_are_listed_at_once() -> None:
    assert len(_mistakes("seed", "data.uri=[x", "name={")) == 3


# --- mistakes ------------------------------------------------------------------------------------


def test_every_mistake_is_listed_with_its_key_path() -> None:
    lines = _mistakes(
        "name=a b",
        "seed=-1",
        "prepare.downscale=3",
        "autoencoder.lmbda=abc",
        "autoencoder.train.buget=1 h",
        "decoder.train.budget=rubbish",
        "evaluate.baselines=[jpeg, png]",
        "cluster.kind=foo",
        "tracking=5",
    )
    assert [line.split(": ")[0] for line in lines] == [
        "name",
        "seed",
        "prepare.downscale",
        "autoencoder.lmbda",
        "autoencoder.train.buget",
        "decoder.train.budget",
        "evaluate.baselines.1",
        "cluster.kind",
        "tracking",
    ]
    assert lines[0] == "name: got 'a b', expected letters, digits and . _ -, beginning with a letter or digit."
    assert lines[1] == "seed: got -1, expected greater than or equal to 0."
    assert lines[7] == "cluster.kind: got 'foo', expected 'inline', 'local' or 'attach'."
    assert lines[8] == "tracking: got 5, expected a section of settings."


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("autoencoder.lamda=1", "autoencoder.lmbda"),
        ("autoencoder.lambda=1", "autoencoder.lmbda"),
        ("lmbda=1", "autoencoder.lmbda"),
        ("data.url=x", "data.uri"),
        ("dat.uri=x", "data"),
        ("decoder.train.buget=1 h", "decoder.train.budget"),
        ("autoencoder.train.batchsize=1", "autoencoder.train.batch_size"),
        ("evaluate.sampler=1", "evaluate.samplers"),
        ("decoder.proces.s=1", "decoder.process"),
        ("cluster.train_worker=2", "cluster.train_workers"),
        ("workspce=/x", "workspace"),
        ("seeds=1", "seed"),
        ("zzzz=1", None),
    ],
)
def test_a_misspelt_key_names_the_nearest_right_one(override: str, nearest: str | None) -> None:
    line = _mistake(override)
    assert ": unknown key." in line
    suggested = re.search(r"Did you mean (\S+)\?$", line)
    assert (suggested[1] if suggested else None) == nearest


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "promote.draws=50",
            "promote.draws: unknown key. Remove it, or use one of promote.distances, promote.max_bpp_rise, "
            "promote.max_psnr_loss_db, promote.model",
        ),
        (
            "lease.nodes.wait=5",
            "lease.nodes: unknown key. Remove it, or use one of lease.expires_s, lease.heartbeat_s, lease.name, "
            "lease.use",
        ),
        (
            "zzzz=1",
            "zzzz: unknown key. Remove it, or use one of autoencoder, cluster, data, decoder, evaluate, lease, name, "
            "prepare, promote, seed, tracking, workspace",
        ),
    ],
)
def test_a_key_of_an_earlier_version_names_the_keys_of_its_section(override: str, line: str) -> None:
    assert _mistake(override) == line


def test_all_keys_are_those_of_the_printed_configuration() -> None:
    def leaves(model: object, prefix: str = "") -> set[str]:
        found = set()
        for name in type(model).model_fields:
            value = getattr(model, name)
            found |= leaves(value, f"{prefix}{name}.") if hasattr(value, "model_fields_set") else {prefix + name}
        return found

    keys = set(all_keys())
    with_all = load_config(
        "desk",
        [
            "autoencoder.gdn_channels=null",
            "autoencoder.residual={}",
            "decoder.perceptual={critic: {}}",
            "decoder.finish={}",
            "decoder.adversarial={train: {budget: 1 steps, crop_px: 64}}",
        ],
    )
    # Perceptual losses, distillation and a frozen decoder exclude each other.
    distill = load_config("desk-diffusion", ["decoder.distill={teacher: desk-025}"]).decoder.distill
    blend = load_config("score", ["decoder.blend={model: desk-025}"]).decoder.blend
    found = leaves(with_all) - {"decoder.distill", "decoder.blend"}
    found |= leaves(distill, "decoder.distill.") | leaves(blend, "decoder.blend.")
    assert found <= keys
    # The other kinds of the tagged union are the rest.
    assert {key.rpartition(".")[0] for key in keys - found} == {"decoder.process"}


@pytest.mark.parametrize(
    "override",
    [
        "autoencoder.lmbda=.nan",
        "decoder.train.weight_decay=.inf",
        "cluster.train_gpus=.inf",
        "decoder.process.sigma_s=-.inf",
    ],
)
def test_no_setting_is_infinite_or_nan(override: str) -> None:
    assert _mistake(override).startswith(override.split("=")[0] + ": got ")


def test_configurations_do_not_change() -> None:
    config = load_config("desk")
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 5
    with pytest.raises(ValidationError, match="frozen"):
        config.autoencoder.train.lr = 5


# --- budgets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "steps", "seconds"),
    [
        ("5000 steps", 5000, None),
        ("1 step", 1, None),
        ("7steps", 7, None),
        ("2000000 steps", 2_000_000, None),
        ("90 s", None, 90.0),
        ("90 sec", None, 90.0),
        ("10 min", None, 600.0),
        ("8 h", None, 28_800.0),
        ("2.5 h", None, 9000.0),
        ("  1.5   min ", None, 90.0),
    ],
)
def test_a_budget_is_steps_or_seconds(budget: str, steps: int | None, seconds: float | None) -> None:
    config = TrainConfig(budget=budget)
    assert config.budget_steps == steps
    assert config.budget_s == seconds


@pytest.mark.parametrize(
    "budget",
    ["", "steps", "5000", "5 parsecs", "-5 steps", "0 steps", "0.0 h", "0.5 steps", "1e3 steps", "8 h 30 min", "nan s"],
)
def test_an_invalid_budget_names_valid_ones(budget: str) -> None:
    line = _mistake(f"decoder.train.budget='{budget}'")
    assert line.startswith(f"decoder.train.budget: got {budget!r}, expected a ")
    assert "steps" in line


@pytest.mark.parametrize("budget", ["5000", "true", "[1 h]", "null"])
def test_a_budget_without_a_unit_names_valid_ones(budget: str) -> None:
    assert "'5000 steps', '90 s', '10 min', '8 h'" in _mistake(f"autoencoder.train.budget={budget}")


# --- settings that do not go together ------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["autoencoder.groups=[8, 8]"],
            "autoencoder.groups: got [8, 8] (sum 16), expected a sum of M = 96",
        ),
        (
            ["autoencoder.train.crop_px=256"],
            "autoencoder.train.crop_px: got 256, expected at most 128, the smaller of prepare.min_side_px and "
            "prepare.source_crop_px",
        ),
        (
            ["prepare.source_crop_px=64", "autoencoder.train.crop_px=64", "decoder.train.crop_px=72"],
            "decoder.train.crop_px: got 72, expected at most 64, the smaller of prepare.min_side_px and "
            "prepare.source_crop_px",
        ),
        (
            ["prepare.validation_share=0", "decoder.finish={restore: 0.44}"],
            "decoder.finish.restore: got 0.44 with prepare.validation_share=0, expected 0 without held-out crops to "
            "measure it on. Set prepare.validation_share, or decoder.finish=null",
        ),
        (
            ["decoder.train.crop_px=100"],
            "decoder.train.crop_px: got 100, expected a multiple of 8 (lean: 2 x 2 per level)",
        ),
        (
            ["decoder.train.crop_px=100", "decoder.lean=null"],
            "decoder.train.crop_px: got 100, expected a multiple of 8 (unet.patch x 2 per level)",
        ),
        (
            ["decoder.unet.blocks=[1]"],
            "decoder.unet.blocks: got 1 entries, expected as many as channels (2)",
        ),
        (
            ["cluster.kind=local", "cluster.train_workers=2", "cluster.train_workers_min=3"],
            "cluster.train_workers_min: got 3, expected at most train_workers, which is 2.",
        ),
        (
            ["cluster.kind=local", "cluster.train_workers=3", "decoder.train.accumulate=4"],
            "decoder.train.batch_size: got 4, expected at least 12: cluster.train_workers x train.accumulate",
        ),
        (
            ["cluster.kind=inline", "cluster.train_workers=2"],
            "cluster.train_workers: got 2, expected 1 with kind=inline. Use kind=local.",
        ),
        (
            ["cluster.kind=attach"],
            "cluster.address: missing, expected the address of a running Ray with kind=attach",
        ),
    ],
)
def test_settings_that_do_not_go_together_name_the_key(overrides: list[str], line: str) -> None:
    assert _mistake(*overrides) == line


def test_consistent_settings_are_accepted() -> None:
    assert load_config("desk", ["cluster.kind=local", "cluster.train_workers=2"]).cluster.train_workers == 2
    assert load_config("desk", ["cluster.kind=attach", "cluster.address=auto"]).cluster.address == "auto"
    assert load_config("desk", ["autoencoder.groups=[16, 80]"]).autoencoder.groups == (16, 80)


@pytest.mark.parametrize(("patch", "levels", "stride"), [(1, 1, 1), (4, 2, 8), (8, 1, 8), (2, 3, 8)])
def test_the_stride_of_the_network(patch: int, levels: int, stride: int) -> None:
    unet = UNetConfig(patch=patch, channels=(8,) * levels, blocks=(1,) * levels)
    assert unet.stride == stride
    train = {"budget": "1 step", "crop_px": 64}
    assert DecoderConfig(unet=unet, train=TrainConfig(**train)).unet.stride == stride


# --- descriptions --------------------------------------------------------------------------------


def _sections_in(annotation: object) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections_in(argument)]


def _undescribed(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Keys below a section whose field has no description; of a section in a section: that have no docstring."""
    for name, field in section.model_fields.items():
        inner = _sections_in(field.annotation)
        if not (all(one.__doc__ for one in inner) if inner else field.description):
            yield prefix + name
        for one in inner:
            yield from _undescribed(one, f"{prefix}{name}.")


def test_every_setting_has_a_description() -> None:
    assert sorted(_undescribed(Config)) == []


def test_a_setting_without_a_description_would_be_seen() -> None:
    class Inner(Section):
        """A section."""

        size: int = 1

    class Outer(Section):
        many: tuple[Inner, ...] = ()
        maybe: Inner | None = None
        named: int = Field(0, description="A number.")

    assert list(_undescribed(Outer)) == ["many.size", "maybe.size"]


def test_a_distance_of_near_duplicates_needs_a_use() -> None:
    assert _mistake("prepare.near_bits=4") == (
        "prepare.near_bits: got 4, expected drop_duplicates or drop_evaluation with it. "
        "Set prepare.drop_duplicates=true"
    )
    assert "near_bits: got 0," in _mistake("prepare.near_bits=0", "prepare.drop_duplicates=false")
    for use in ("drop_duplicates", "drop_evaluation"):
        assert load_config("desk", ("prepare.near_bits=4", f"prepare.{use}=true")).prepare.near_bits == 4
    assert _mistake("prepare.near_cosine=0.9").startswith("prepare.near_cosine: got 0.9, expected drop_duplicates or")
    assert "near_cosine" in _mistake("prepare.near_cosine=1.0", "prepare.drop_duplicates=true")


@pytest.mark.parametrize("downscale", ["null", "0.51"])
def test_a_decoder_that_cannot_halve_is_refused(downscale: str) -> None:
    line = _mistake("prepare.downscale_in_decoder=true", f"prepare.downscale={downscale}")
    assert line.startswith("prepare.downscale_in_decoder: got true with downscale ") and "at most 0.5" in line
    load_config("desk", ["prepare.downscale_in_decoder=true", "prepare.downscale=0.5"])


@pytest.mark.parametrize(("name", "value"), [("beta2", 0.99), ("lr_drops", 3)])
def test_a_setting_added_later_leaves_keys_alone_until_it_is_set(name: str, value: float) -> None:
    train = load_config("desk").decoder.train.content()
    assert name not in train
    assert load_config("desk", [f"decoder.train.{name}={value}"]).decoder.train.content() == {**train, name: value}


def test_a_critic_has_the_settings_of_its_version_until_others_are_set() -> None:
    critic = load_config("lean", ["decoder.perceptual.critic={}"]).decoder.content()["perceptual"]["critic"]
    assert set(critic) == {"weight", "label", "lr", "widths"}
    assert not {"charbonnier", "style"} & set(load_config("lean").decoder.content()["perceptual"])
    several = ["decoder.perceptual.critic={loss: hinge, steps: 4}"]
    assert load_config("lean", several).decoder.content()["perceptual"]["critic"] == {
        **critic, "loss": "hinge", "steps": 4,
    }  # fmt: skip
    assert "expected 'cross-entropy' or 'hinge'" in _mistake("decoder.perceptual={critic: {loss: hing}}")


def test_a_setting_added_later_is_left_out_of_each_of_several_sections() -> None:
    samplers = load_config("desk", ["evaluate.samplers=[{steps: 2}, {steps: 8, stop: 0.5}]"]).evaluate.content()
    plain, stopped = samplers["samplers"]
    assert "stop" not in plain and stopped == {**plain, "steps": 8, "stop": 0.5}


def test_a_residual_diffusion_has_a_scale() -> None:
    process = load_config("desk", ["decoder.process={kind: residual-diffusion}"]).decoder.process.content()
    assert process["residual_std"] == 0.1 and process["s"] == 1.0
    assert "decoder.process.residual_std" in _mistake("decoder.process={kind: residual-diffusion, residual_std: null}")
