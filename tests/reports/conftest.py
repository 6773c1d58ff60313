"""A page with every kind of block and content as reports really have it."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from glmreport import (
    Code,
    Column,
    Example,
    Fact,
    FindingView,
    Literal,
    Page,
    Paragraph,
    Provenance,
    Section,
    Step,
    Table,
    Text,
    TokenSpan,
    TokenView,
    Verdict,
)
from glmreport.charts import Line, Marker, Series, bars, cumulative, edges, histogram, lines
from glmreport.page import Chart


@pytest.fixture(scope="session")
def example_page() -> Page:
    return build_example_page()


def build_example_page() -> Page:
    return Page(
        kind="glmprep audit",
        title=Literal("客服对话数据检查 · Support chats before training"),
        subject="data/support-2026-10.jsonl",
        verdict=Verdict(
            level="bad",
            headline=Literal("214 conversations cannot be trained as they are"),
            detail=Literal("Of 12,022 conversations 98.2% are ready; 1 file, 8,941,207 tokens."),
        ),
        steps=[
            Step(
                text=Literal("Mend what is safe to mend; every change is listed in ledger.jsonl."),
                command="glmprep convert data/support-2026-10.jsonl --repair -o clean.jsonl",
            ),
            Step(
                text=Literal("Split long conversations instead of cutting their answers off."),
                command="glmprep segment clean.jsonl --max-length 4096 --overlap 2 -o cut.jsonl",
            ),
            Step(text=Literal("Look at the 12 duplicates below and decide which to keep.")),
        ],
        facts=[
            Fact(label=Literal("Conversations"), value=12022, note=Literal("214 with errors")),
            Fact(label=Literal("Tokens"), value="8.94 M", note=Literal("GLM-4 vocabulary")),
            Fact(label=Literal("Trainable"), value="41.3%", note=Literal("3,692,718 tokens")),
            Fact(label=Literal("Median length"), value=612, note=Literal("longest 18,204")),
            Fact(label=Literal("Cut at 4,096"), value="1.8%", note=Literal("of trainable tokens")),
        ],
        sections=[
            Section(
                title=Literal("How long the conversations are"),
                intro=Literal("Lengths count the prefix and the final stop token."),
                blocks=[_lengths(), _kept(), _losses_by_limit()],
            ),
            Section(
                title=Literal("Training"),
                blocks=[_loss(), _collapse(), _roles(), _rules()],
            ),
            Section(
                title=Literal("What is trained"),
                blocks=[
                    Paragraph(Literal("One row of the first shard, as the model gets it.")),
                    TokenView(_spans()),
                    Code('{"messages": [{"role": "user", "content": "你好"}]}\n'),
                ],
            ),
        ],
        findings=_findings(),
        provenance=Provenance(
            version="glmprep 0.1.0",
            command="glmprep audit data/support-2026-10.jsonl --max-length 4096 --report a.html",
            inputs=["data/support-2026-10.jsonl (31.4 MiB, sha256 9f2c41d0a7b3)"],
            created="2026-11-22 06:34 UTC",
        ),
    )


def _lengths() -> Chart:
    draw = random.Random(7)
    bins = edges(16, 20_000, 44)

    def counts(centre: float, spread: float) -> list[int]:
        values = [draw.lognormvariate(math.log(centre), spread) for _ in range(12_000)]
        pairs = itertools.pairwise(bins)
        return [sum(low <= value < high for value in values) for low, high in pairs]

    return histogram(
        [
            Series(Literal("whole conversations"), counts(700, 0.8)),
            Series(Literal("answers"), counts(180, 0.9)),
        ],
        bins,
        caption=Literal("Tokens per conversation and per answer"),
        x_label=Literal("tokens"),
        y_label=Literal("conversations"),
        markers=[
            Marker(700, Literal("p50 700")),
            Marker(2609, Literal("p95 2,609")),
            Marker(4096, Literal("--max-length 4,096"), "bad"),
            Marker(4500, Literal("p99 4,500")),
        ],
    )


def _kept() -> Chart:
    limits = [2**power for power in range(6, 15)]
    return cumulative(
        limits,
        [
            Series(Literal("rows kept whole"), [1 - math.exp(-limit / 900) for limit in limits]),
            Series(Literal("trainable tokens"), [1 - math.exp(-limit / 2200) for limit in limits]),
        ],
        caption=Literal("Share kept at each maximum length"),
        x_label=Literal("maximum length in tokens"),
        y_label=Literal("kept"),
        markers=[Marker(4096, Literal("--max-length 4,096"))],
    )


def _losses_by_limit() -> Table:
    return Table(
        columns=[
            Column(label=Literal("Maximum length"), numeric=True),
            Column(label=Literal("Rows cut"), numeric=True, bar=True),
            Column(label=Literal("Trainable tokens lost"), numeric=True, bar=True),
            Column(label=Literal("Share"), numeric=True, spec="percent"),
        ],
        rows=[
            [1024, 3411, 1_246_900, 0.3376],
            [2048, 1018, 391_007, 0.1059],
            [4096, 214, 66_120, 0.0179],
            [8192, 9, 1_204, 0.0003],
        ],
        caption=Literal("What each maximum length would cut"),
        highlight=2,
    )


def _loss() -> Chart:
    draw = random.Random(3)
    steps = list(range(1, 401))
    loss = [2.1 * math.exp(-step / 110) + 0.9 + draw.gauss(0, 0.09) for step in steps]
    loss[240] = 3.4
    return lines(
        [
            Line(Literal("training loss"), steps, loss, smooth=True),
            Line(Literal("evaluation loss"), steps[49::50], [v + 0.12 for v in loss[49::50]]),
        ],
        caption=Literal("Loss by step"),
        x_label=Literal("step"),
        y_label=Literal("loss per trained token"),
        markers=[Marker(241, Literal("spike at step 241"), "warn", 3.4)],
    )


def _collapse() -> Chart:
    steps = list(range(1, 201))
    norms = [0.6 + 0.3 * math.sin(step / 9) + (step / 90) ** 6 for step in steps]
    norms[119:] = [math.nan] * 81
    return lines(
        [Line(Literal("gradient norm"), steps, norms)],
        caption=Literal("Gradient norm by step"),
        x_label=Literal("step"),
        y_label=Literal("norm"),
        log_y=True,
        markers=[Marker(120, Literal("NaN at step 120"), "bad")],
    )


def _roles() -> Chart:
    return bars(
        [
            Text("page.tokens.trained"),
            Text("page.tokens.context"),
            Literal("dropped by trimming, as was asked for"),
            Literal("quarantined"),
        ],
        [
            Series(Literal("Chinese"), [2_692_718, 3_148_489, 40_200, 11_020]),
            Series(Literal("English"), [1_000_000, 2_000_000, 8_600, 40_180]),
        ],
        caption=Literal("Where every token went"),
    )


def _rules() -> Chart:
    return bars(
        [Literal("EX101 空的回复"), Literal("EX102 duplicate"), Literal("EX103 long")],
        [Series(Literal("rows"), [0.62, 0.27, 0.1125])],
        caption=Literal("Share of the problems by rule"),
        spec="percent",
    )


def _spans() -> list[TokenSpan]:
    return [
        TokenSpan("[gMASK]<sop><|system|>", "special"),
        TokenSpan("\n你是一位客服。\n", "context"),
        TokenSpan("<|user|>", "special"),
        TokenSpan("\n我的订单还没到，怎么办？", "context"),
        TokenSpan("<|assistant|>", "special"),
        TokenSpan("\n请把订单号发给我，我帮您查一下物流。\nWe answer within one day.", "trained"),
        TokenSpan("<|user|>", "stop"),
        TokenSpan("\n订单号是 20261122，谢谢。", "context"),
        TokenSpan("<|assistant|>", "special"),
        TokenSpan("\n查到了，包裹明天送达", "trained"),
        TokenSpan("，届时请保持电话畅通。<|user|>", "cut"),
    ]


def _findings() -> list[FindingView]:
    return [
        FindingView(
            rule="EX103",
            severity="info",
            title="Some answers are much longer than the others",
            evidence="9 answers are longer than 8,192 tokens.",
            why="They fill a batch on their own.",
            fix="Leave them, or segment with `--max-length 8192`.",
            count=9,
        ),
        FindingView(
            rule="EX101",
            severity="error",
            title="An assistant turn is empty",
            evidence="202 conversations have an assistant turn without text or a tool call.",
            why="The model would learn to stop at once.",
            fix="Delete the turn, or pass `--repair` to drop the exchange.",
            data={"count": 202},
            examples=[
                Example(
                    where="data/support-2026-10.jsonl:41",
                    excerpt='{"role": "assistant", "content": ""}',
                ),
                Example(where="data/support-2026-10.jsonl:977", tokens=_spans()[2:7]),
            ],
            count=202,
        ),
        FindingView(
            rule="EX102",
            severity="warning",
            title="Conversations appear more than once",
            evidence="12 conversations are exact copies of earlier ones.",
            why="Copies are trained more often than the rest and leak into evaluation.",
            fix="Pass `--deduplicate`, or keep them on purpose.",
            examples=[Example(where="data/support-2026-10.jsonl:5120", excerpt="= line 77")],
            count=12,
        ),
    ]
