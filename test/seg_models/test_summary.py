"""Parameters and multiply-accumulates of the papers' tables, and the command that prints them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from seg_models.architectures.linear import LinearBaseline
from seg_models.backbones.vit import TokenBackbone
from seg_models.papers import configurations
from seg_models.papers.configurations import CONFIGURATIONS, Configuration
from seg_models.summary import agrees, count, main, multiply_accumulates, regproxy_multiply_accumulates

PUBLISHED = [c for c in CONFIGURATIONS if c.params_m or c.gmac]


@pytest.mark.parametrize("configuration", PUBLISHED, ids=lambda c: c.name)
def test_figures_are_the_published_ones_or_the_reason_is_given(configuration):
    row = count(configuration)
    assert row.params_agree or configuration.note
    if row.published_macs is not None:
        percent = 100 * (row.macs_by_paper_rule / row.published_macs - 1)
        # Printed with two or three digits, and the papers' counter also has norms, which the rules here leave out.
        noted = configuration.noted_percent
        assert percent == pytest.approx(noted or 0.0, abs=1.5 if noted is None else 0.1)
        assert configuration.note or noted is None


def test_only_what_the_papers_print_wrongly_or_round_off_misses_the_parameters():
    """The notes excuse three configurations' parameters; the many other noted ones concern multiply-accumulates."""
    with torch.device("meta"):
        noted = {c.name: sum(p.numel() for p in c.build().parameters()) / 1e6 for c in PUBLISHED if c.note}
    printed = {c.name: c.params_m for c in PUBLISHED}
    off = {name for name, value in noted.items() if printed[name] and not agrees(value, printed[name])}
    assert off == {"RegProxy-R50+L/32, ADE20K", "Seg-B/32, ADE20K", "Seg-B/8, ADE20K"}


def test_every_file_of_tables_is_read_and_a_rows_own_field_overrules_its_tables(tmp_path):
    folder = Path(configurations.__file__).parent
    assert {path.stem for path in folder.glob("*.yaml")} == set(configurations.PAPERS)
    path = tmp_path / "paper.yaml"
    path.write_text(
        "tables:\n  - {architecture: linear, source: 'X, Table 1', classes: 5, size: [32, 48], rows: ["
        "{name: a, backbone: b, params_m: 22, note: why}, {name: c, backbone: d, classes: 7, gmac: 22.0}]}\n"
    )
    first, second = configurations.read_tables(path)
    assert first == Configuration("a", "linear", "b", 5, (32, 48), params_m=22, source="X, Table 1", note="why")
    assert (second.classes, str(second.gmac), str(first.params_m)) == (7, "22.0", "22")  # the printed digits count
    path.write_text(
        "tables: [{architecture: linear, rows: [{name: a, backbone: b, classes: 1, size: [1, 1], gmacs: 3}]}]"
    )
    with pytest.raises(TypeError, match="gmacs"):
        configurations.read_tables(path)


def test_names_are_unique():
    assert Counter(c.name for c in CONFIGURATIONS).most_common(1)[0][1] == 1


def test_the_rules_count_a_small_transformer_as_by_hand():
    shape = {"embed_dim": 8, "depth": 1, "num_heads": 2}
    backbone = TokenBackbone("vit_tiny_patch16_224", (32, 48), timm_options=shape)  # 6 patches and a class token
    model = LinearBaseline(backbone, 5, (32, 48))
    patches, feed_forward, classifier = 6 * 8 * 3 * 256, 7 * 2 * 8 * 32, 6 * 8 * 5
    projections, products = 7 * 4 * 8 * 8, 2 * 7 * 7 * 8
    outside_attention = patches + feed_forward + classifier
    assert regproxy_multiply_accumulates(model, (32, 48)) == outside_attention
    assert multiply_accumulates(model, (32, 48)) == outside_attention + projections + products


def test_json_is_a_list_of_plain_numbers_with_null_where_nothing_is_published(capsys):
    assert main(["--json", "--only", "vit-ti/16"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["name"] == "Linear ViT-Ti/16, ADE20K"
    assert (entry["published_params"], entry["published_macs"]) == (5_700_000, 3_800_000_000)
    assert entry["params"] == 5_712_342  # 12 layers, 1025 positions and 150 classes of width 192, by hand
    assert main(["--json", "--only", "three levels"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["published_params"] is None
    assert entry["published_macs"] is None
    assert isinstance(entry["params"], int)
    assert isinstance(entry["macs"], int)


def test_table_states_the_rules_and_the_difference(capsys):
    assert main(["--only", "RegProxy-Ti/16, Cityscapes"]) == 0
    out = capsys.readouterr().out
    assert "common" in out
    assert "regproxy" in out
    assert "+0.4 %" in out  # 69.3 G by the paper's rule over 8 windows, printed 69 G


def test_an_unknown_name_is_said_so(capsys):
    assert main(["--only", "no such"]) == 2
    assert "no configuration's name contains 'no such'" in capsys.readouterr().err
