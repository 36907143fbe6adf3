"""Presets: the shipped ones, ``extends``, and their values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from hfd.config import DiffusionConfig, RectifiedFlowConfig
from hfd.config.presets import load_config, preset_folder, preset_names
from hfd.errors import ConfigError

PAPER_SCALE = ["clic", "coco256"]
COMPARED = ["compare", "compare-dirac", "compare-flow", "compare-hific", "compare-po-elic"]
MINIMAL = """
name: minimal
autoencoder: {lmbda: 0.004, train: {budget: 10 steps, crop_px: 64}}
decoder: {train: {budget: 20 steps, crop_px: 64}}
"""


def _mistakes(preset: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_config(preset, overrides)
    return str(error.value).splitlines()


def _mistake(preset: str) -> str:
    lines = _mistakes(preset)
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def minimal(tmp_path: Path) -> str:
    (tmp_path / "minimal.yaml").write_text(MINIMAL)
    return str(tmp_path / "minimal.yaml")


# --- presets -------------------------------------------------------------------------------------


def test_the_presets_are_these() -> None:
    own = ["demo", "desk", "desk-012", "desk-diffusion", "lean", "score"]
    assert preset_names() == ["clic", "coco256", *COMPARED, *own]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_under_its_own_name(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert config.workspace_uri == f"runs/{'compare' if name in COMPARED else name}"


@pytest.mark.parametrize("name", preset_names())
def test_a_dry_run_prints_a_preset_of_the_same_settings(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    (tmp_path / "printed.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(str(tmp_path / "printed.yaml")) == config


def test_demo_extends_desk_and_changes_only_its_own_keys() -> None:
    desk, demo = load_config("desk"), load_config("demo")
    assert demo.data.uri == "builtin:photographs"
    assert demo.prepare.max_crops_per_photo == 4
    assert demo.prepare.downscale is None, "null in a child undoes the parent's value"
    assert demo.autoencoder.N == desk.autoencoder.N
    assert demo.decoder.train.batch_size == desk.decoder.train.batch_size
    assert demo.decoder.lean == desk.decoder.lean is not None


def test_the_presets_of_desk_scale_differ_in_stage_2_as_they_say() -> None:
    desk, diffusion, lean = load_config("desk"), load_config("desk-diffusion"), load_config("lean")
    for section in ("prepare", "autoencoder", "evaluate", "cluster"):
        assert getattr(diffusion, section) == getattr(desk, section)
    assert desk.decoder.lean is not None and desk.decoder.perceptual is not None
    kind = (diffusion.decoder.process, diffusion.decoder.lean, diffusion.decoder.perceptual)
    assert kind == (DiffusionConfig(), None, None)
    assert lean.decoder.rates is not None
    assert lean.decoder == desk.decoder.model_copy(update={"rates": lean.decoder.rates})


def test_extends_chains_by_path_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text("extends: desk\nname: parent\nseed: 5\nautoencoder: {lmbda: 0.01}\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/child.yml").write_text("extends: ../parent.yaml\nname: child\nautoencoder: {aux_lr: 0.002}\n")
    config = load_config(str(tmp_path / "below/child.yml"))
    assert (config.name, config.seed) == ("child", 5)
    assert (config.autoencoder.lmbda, config.autoencoder.aux_lr) == (0.01, 0.002)
    assert config.autoencoder.M == load_config("desk").autoencoder.M


@pytest.mark.parametrize("parent", ["a.yaml", "../{here}/a.yaml", "./b.yaml"])
def test_a_cycle_of_extends_is_named(tmp_path: Path, parent: str) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text(f"extends: {parent.format(here=tmp_path.name)}\n")
    line = _mistake(str(tmp_path / "a.yaml"))
    assert "extends itself" in line
    assert "a.yaml" in line
    assert "b.yaml" in line


def test_a_preset_that_extends_an_unknown_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: dsk\n")
    assert "got 'dsk'" in _mistake(str(tmp_path / "a.yaml"))


def test_a_preset_of_an_older_form_names_the_new_settings(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(
        "extends: desk\nname: old\ndecoder: {kind: diffusion, s: 0.5}\nevaluate: {sampler: {steps: 20}}\n"
    )
    assert _mistakes(str(tmp_path / "old.yaml")) == [
        "decoder.kind: unknown key. Did you mean decoder.process.kind?",
        "decoder.s: unknown key. Did you mean decoder.process.s?",
        "evaluate.sampler: unknown key. Did you mean evaluate.samplers?",
    ]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "data.sources=[{uri: a}, {uri: b, shar: 0.5}]",
            "data.sources.1.shar: unknown key. Did you mean data.sources.1.share?",
        ),
        ("data.sources=[{uri: a, x: 1}]", "data.sources.0.x: unknown key. Remove it, or use one of uri, share, name"),
        (
            "evaluate.samplers=[{step: 3}]",
            "evaluate.samplers.0.step: unknown key. Did you mean evaluate.samplers.0.steps?",
        ),
    ],
)
def test_a_misspelt_key_in_a_list_of_sections_is_corrected(override: str, line: str) -> None:
    assert _mistakes("desk", override) == [line]


def test_a_section_of_another_kind_replaces_that_of_the_preset_below(tmp_path: Path) -> None:
    """Its keys may not exist in the other. Sections whose kind only names a value are merged."""
    (tmp_path / "x.yaml").write_text(
        "extends: desk\nname: x\ndecoder: {process: {kind: rectified-flow}}\ncluster: {kind: inline}"
    )
    config = load_config(str(tmp_path / "x.yaml"))
    assert config.decoder.process == RectifiedFlowConfig()
    assert config.cluster.kind == "inline" and config.cluster.train_threads == 2
    (tmp_path / "y.yaml").write_text("extends: desk\nname: y\ndecoder: {process: {sigma_s: 0.3}}")
    process = load_config(str(tmp_path / "y.yaml")).decoder.process
    assert process == load_config("desk").decoder.process.model_copy(update={"sigma_s": 0.3})


@pytest.mark.parametrize("name", COMPARED)
def test_decoders_are_compared_on_one_stage_1_and_one_network_for_equal_time(name: str) -> None:
    config, first = load_config(name), load_config("compare")
    for section in ("workspace", "seed", "prepare", "autoencoder"):
        assert getattr(config, section) == getattr(first, section)
    assert (config.decoder.unet, config.decoder.lean, config.decoder.train) == (
        first.decoder.unet, None, first.decoder.train,
    )  # fmt: skip


def test_an_unknown_preset_lists_all_and_the_nearest() -> None:
    assert _mistake("dmeo").endswith(
        f"expected one of clic, coco256, {', '.join(COMPARED)}, demo, desk, desk-012, desk-diffusion, lean, score or a "
        ".yaml file. Did you mean demo?"
    )
    assert "Did you mean" not in _mistake("/nowhere/x.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name: [unclosed", "not readable as YAML"),
        (b"name: \xff\xfe", "not readable as YAML"),
        (b"- a\n- b\n", "got a list, expected a mapping"),
        (b"just words", "got a str, expected a mapping"),
    ],
)
def test_a_file_that_is_no_preset(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    line = _mistake(str(tmp_path / "bad.yaml"))
    assert words in line
    assert "bad.yaml" in line


def test_an_empty_file_lists_the_missing_settings(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    lines = _mistakes(str(tmp_path / "empty.yaml"))
    assert [line.split(":")[0] for line in lines] == ["name", "autoencoder", "decoder"]
    assert all("missing, expected a value. Set it in the preset or as " in line for line in lines)


def test_defaults_fill_a_minimal_preset(minimal: str) -> None:
    config = load_config(minimal)
    assert (config.autoencoder.N, config.autoencoder.M) == (192, 320)
    assert config.cluster.kind == "inline"


# --- the paper-scale presets ---------------------------------------------------------------------

ABOUT_THE_METHOD = ("autoencoder", "decoder", "evaluate", "prepare")
NOT_THE_METHOD = {
    "checkpoint_every_s", "log_every_steps", "compile", "precision", "accumulate", "checkpoint_activations",
}  # fmt: skip
"""Sections about execution and tracking, which no paper describes."""


def _unmarked(text: str) -> list[str]:
    """Dotted keys of the lines of a preset that set a value of the method without [S], [C] or [A] beside it."""
    unmarked, parents = [], []
    for line in text.splitlines():
        code, _, comment = line.partition("#")
        match = re.match(r"^( *)([A-Za-z_]\w*):(.*)$", code.rstrip())
        if match is None:
            assert not code.strip(), f"a line that this test cannot read: {line}"
            continue
        depth = len(match[1]) // 2
        parents = [*parents[:depth], match[2]]
        of_method = parents[0] in ABOUT_THE_METHOD and match[2] not in NOT_THE_METHOD
        if match[3].strip() and of_method and not re.search(r"\[[SCA]\]", comment):
            unmarked.append(".".join(parents))
    return unmarked


@pytest.mark.parametrize("name", [*PAPER_SCALE, *COMPARED])
def test_every_value_of_a_paper_scale_preset_carries_its_standing(name: str) -> None:
    assert _unmarked((preset_folder() / f"{name}.yaml").read_text()) == []


def test_an_unmarked_value_would_be_seen() -> None:
    text = (
        "name: x\nprepare:\n  downscale: 0.5  # why not\n"
        "decoder:\n  s: 0.5  # [A]\n  train:\n    lr: 1  # Adam\n    compile: true\n"
    )
    assert _unmarked(text) == ["prepare.downscale", "decoder.train.lr"]


@pytest.mark.parametrize("name", [*PAPER_SCALE, *COMPARED])
def test_the_legend_of_the_marks_is_in_the_file(name: str) -> None:
    text = (preset_folder() / f"{name}.yaml").read_text()
    assert re.search(r"(clic|compare)\.yaml", text) or all(f"[{mark}]" in text.split("name:")[0] for mark in "SCA")


@pytest.mark.parametrize("name", PAPER_SCALE)
def test_paper_scale_presets_hold_the_published_values(name: str) -> None:
    config = load_config(name)
    stage1, stage2 = config.autoencoder, config.decoder
    assert 7.8e-4 <= stage1.lmbda <= 3.1e-3
    assert 8 <= stage1.train.batch_size <= 16
    assert stage1.train.crop_px == 256
    assert stage1.train.lr == 1e-4
    assert stage1.train.lr * stage1.train.lr_final == pytest.approx(1e-5)
    assert stage1.train.lr_decay_share == stage1.relaxed_share == 0.15
    assert (stage2.process.kind, stage2.process.s, stage2.process.predict) == ("diffusion", 0.5, "v")
    assert [sampler.gamma for sampler in config.evaluate.samplers] == [0.0]
    assert config.evaluate.patch_px == 256


def test_coco_is_thirty_thousand_images() -> None:
    evaluate = load_config("coco256").evaluate
    assert (evaluate.max_images, evaluate.square_px) == (30_000, 256)
