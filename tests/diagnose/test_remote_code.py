from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from glmdiag.software import library, remote_code, remote_source
from glmdiag.software.code_rules import judge
from glmdiag.software.remote_code import RemoteCode
from glmprep.errors import InputError
from glmreport import render

pytest.importorskip("torch").set_num_threads(1)
pytest.importorskip("transformers")

MODEL = """
from transformers import PreTrainedModel
from .configuration_small import SmallConfig

class SmallModel(PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.head = make_head(config.width)
        self.post_init()

    def forward(self, input_ids, past_key_values=None, **kwargs):
        return self.head(self.embed(input_ids))

    def embed(self, input_ids):
        return input_ids

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}

    def stop(self, generation_config):
        return self._get_stopping_criteria(generation_config=generation_config)
"""
CONFIG = """
from transformers import PretrainedConfig

class SmallConfig(PretrainedConfig):
    def __init__(self, width=8, seq_length=32, **kwargs):
        self.width = width
        self.max_length = seq_length
        super().__init__(**kwargs)
"""
TOKENIZER = """
from transformers import PreTrainedTokenizer

class SmallTokenizer(PreTrainedTokenizer):
    def __init__(self, vocab_file, **kwargs):
        self.words = read(vocab_file)
        super().__init__(**kwargs)

    def get_vocab(self):
        return dict(self.words)

    def _pad(self, encoded_inputs, max_length=None, padding_side=None, **kwargs):
        return super()._pad(encoded_inputs, max_length=max_length, padding_side=padding_side)
"""
SOUND = {
    "modeling_small.py": MODEL,
    "configuration_small.py": CONFIG,
    "tokenization_small.py": TOKENIZER,
}


def changed(name: str, old: str, new: str) -> dict[str, str]:
    assert old in SOUND[name]
    return SOUND | {name: SOUND[name].replace(old, new)}


FAULTY = {
    "EN011": changed(
        "modeling_small.py",
        "from transformers import PreTrainedModel",
        "from transformers import PreTrainedModel\nfrom transformers.utils import gone_for_good",
    ),
    "EN012": changed("tokenization_small.py", "\nfrom", "\nimport no_such_package\nfrom"),
    "EN013": changed(
        "modeling_small.py", "self._get_stopping_criteria(", "self._extract_past_from_model_output("
    ),
    "EN014": changed(
        "tokenization_small.py",
        """padding_side=None, **kwargs):
        return super()._pad(encoded_inputs, max_length=max_length, padding_side=padding_side)""",
        "padding_strategy=None):\n        return encoded_inputs",
    ),
    "EN015": changed(
        "modeling_small.py",
        "self._get_stopping_criteria(",
        "super()._update_model_kwargs_for_generation(standardize_cache_format=True, ",
    ),
    "EN016": changed("modeling_small.py", "config.width", "config.num_beams"),
    "EN017": changed(
        "modeling_small.py", "self.embed(input_ids))", "past_key_values[0][0].shape[0])"
    ),
    "EN018": changed("modeling_small.py", "        self.post_init()\n", ""),
    "EN019": changed(
        "tokenization_small.py",
        "self.words = read(vocab_file)\n        super().__init__(**kwargs)",
        "super().__init__(**kwargs)\n        self.words = read(vocab_file)",
    ),
    "EN020": SOUND | {"modeling_broken.py": "def f(:\n"},
}
FAULTY["EN015"] = {
    name: text.replace("generation_config=generation_config)", "outputs=1, model_kwargs={})")
    for name, text in FAULTY["EN015"].items()
}


@pytest.fixture
def folder(tmp_path):
    def write(files: dict[str, str], **config: object):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def test_code_that_fits_the_installed_transformers_has_no_findings(folder):
    found = remote_code.scan(folder(SOUND, auto_map={}, architectures=["SmallModel"]))
    assert (found.troubles, judge(found)) == ([], [])
    assert len(found.files) == 3


@pytest.mark.parametrize("rule", FAULTY)
def test_a_rule_fires_alone_on_code_with_its_fault(folder, rule):
    found = remote_code.scan(folder(FAULTY[rule], auto_map={}))
    assert [finding.rule for finding in judge(found)] == [rule]


def test_a_trouble_is_told_with_its_line(folder):
    found = remote_code.scan(folder(FAULTY["EN013"]))
    (trouble,) = found.troubles
    lines = FAULTY["EN013"]["modeling_small.py"].splitlines()
    line = next(n for n, text in enumerate(lines, start=1) if "_extract_past" in text)
    assert trouble.where == f"modeling_small.py:{line}"
    assert trouble.text.startswith("return self._extract_past")


def test_a_setting_that_config_json_or_the_configuration_gives_is_there(folder):
    assert remote_code.scan(folder(FAULTY["EN016"], num_beams=1)).troubles == []
    read = changed("modeling_small.py", "config.width", "config.max_length")
    assert remote_code.scan(folder(read)).troubles == []


def test_imports_that_may_fail_without_harm_are_passed_over(folder):
    guarded = """
try:
    import no_such_package
except ImportError:
    no_such_package = None
if no_such_package:
    from transformers.utils import gone_for_good

def later():
    import no_such_package_either
"""
    assert remote_code.scan(folder({"modeling_small.py": guarded})).troubles == []


def test_a_class_whose_ancestor_is_unknown_is_not_judged_by_its_methods(folder):
    code = """
from transformers import PreTrainedModel
from elsewhere_relative import Mixin

class M(Mixin, PreTrainedModel):
    def f(self):
        return self.from_the_mixin()
"""
    found = remote_code.scan(folder({"modeling_small.py": code.replace("elsewhere_", ".else")}))
    assert [trouble.kind for trouble in found.troubles] == []


def test_a_class_that_inherits_from_itself_ends(folder):
    code = "class A(B):\n    pass\nclass B(A):\n    def f(self):\n        self.g()\n"
    assert remote_code.scan(folder({"modeling_small.py": code})).troubles == []


def test_code_is_never_run(folder, tmp_path):
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')\n__import__('os').system('touch {mark}')\n" + MODEL
    remote_code.scan(folder(SOUND | {"modeling_small.py": code}))
    assert not mark.exists()


def test_files_that_cannot_be_judged_are_told(tmp_path):
    (tmp_path / "modeling_binary.py").write_bytes(b"x = 1\0")
    (tmp_path / "modeling_broken.py").write_text("class (:\n")
    (tmp_path / "modeling_deep.py").write_text("(" * 100_000)
    (tmp_path / "modeling_latin.py").write_bytes(b"x = '\xff'\n")
    (tmp_path / "modeling_huge.py").write_text("#" * (remote_source.MOST_BYTES + 1))
    (tmp_path / "modeling_link.py").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "modeling_pipe.py")
    (tmp_path / "modeling_sound.py").write_text("x = '\\d'\n")  # a warning, no error
    found = remote_source.read(tmp_path)
    assert [source.name for source in found.sources] == ["modeling_sound.py"]
    assert {each.name.split("_")[1][:-3]: each.reason for each in found.skipped} == {
        "binary": "binary",
        "broken": "broken",
        "deep": "broken",
        "latin": "broken",
        "huge": "huge",
        "link": "link",
        "pipe": "special",
    }


def test_files_beyond_the_limit_are_told(tmp_path):
    for number in range(remote_source.MOST_FILES + 1):
        (tmp_path / f"modeling_{number:03}.py").write_text("")
    found = remote_source.read(tmp_path)
    assert (len(found.sources), [each.reason for each in found.skipped]) == (64, ["many"])


CODE = RemoteCode(
    folder="m",
    architectures=["GlmForCausalLM"],
    written_for="5.1.0",
    native=True,
    remote=False,
    transformers="5.23.0",
    files=[],
    skipped=[],
    troubles=[],
)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("EN021", replace(CODE, remote=True)),
        ("EN022", replace(CODE, written_for="5.24.0.dev0")),
        ("EN023", replace(CODE, transformers=None, files=["modeling_m.py"])),
        (None, CODE),
        (None, replace(CODE, written_for="5.23.9")),
        (None, replace(CODE, written_for="soon")),
        (None, replace(CODE, native=False, remote=True)),
    ],
)
def test_a_folder_is_judged_by_what_its_config_says(rule, code):
    assert [finding.rule for finding in judge(code)] == ([rule] if rule else [])


def test_architectures_of_transformers_itself_are_known(folder):
    found = remote_code.scan(folder({}, architectures=["GlmForCausalLM"], auto_map={"a": "b"}))
    assert (found.native, found.remote) == (True, True)
    strange = remote_code.scan(folder({}, architectures="x", transformers_version=4))
    assert (strange.architectures, strange.written_for, strange.native) == ([], None, False)


def test_without_transformers_the_code_is_read_and_nothing_is_claimed(folder, monkeypatch):
    monkeypatch.setattr(library, "version", lambda: None)
    found = remote_code.scan(folder(FAULTY["EN011"]))
    assert [finding.rule for finding in judge(found)] == ["EN023"]


def test_a_config_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError):
        remote_code.scan(tmp_path)


def test_env_shows_where_a_models_code_fails(glmdiag, folder, tmp_path):
    from glmdiag.software.env_rules import judge as judge_all
    from glmdiag.software.environment import examine
    from glmdiag.views.environment import page

    files = SOUND | {"modeling_other.py": FAULTY["EN013"]["modeling_small.py"] + "\n# </script>\n"}
    where = folder(files, auto_map={}, transformers_version="4.40.0")
    status, out, _ = glmdiag("env", "--model", where)
    assert status == 1
    assert "written by transformers 4.40.0" in out
    assert "_extract_past_from_model_output" in out
    found = examine(where)
    html = render(page(found, judge_all(found), "glmdiag env"))
    assert "modeling_other.py:" in html
