"""Models for others: held against `transformers`, and back again."""

import doctest
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from scratchlm.serving import export
from scratchlm.serving.export import (
    CONFIG,
    INDEX,
    LLAMA_PATTERN,
    SINGLE_DIGITS,
    TOKENS,
    WEIGHTS,
    ModelFileError,
    describe,
    export_folder,
    export_gguf,
    gguf_tensors,
    import_folder,
    in_one_pattern,
    model_card,
    new_folder,
    pairs_from_halves,
    settled,
    write_run,
)
from scratchlm.text.bpe import GPT2_PATTERN
from scratchlm.text.exchange import ExchangeError, to_tokenizers
from scratchlm.text.files import SEAL, FileError, read_json, write_json
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.toytown import join, write_corpus
from scratchlm.training.checkpoint import (
    load_model,
    read_settings,
    read_tensors,
    write_tensors,
)
from scratchlm.tuning.instruct import (
    MARKS,
    STOP,
    Turn,
    encode_request,
    encode_turn,
    with_marks,
)

TOWN = Tokenizer.train(join(write_corpus(30_000)), 400)
SENTENCE = "Mrs Pell, who keeps the bakery, has 12 loaves.\n\nCafé 😀 <|end|>"
GREEDY = SamplingConfig(temperature=0)


def test_the_examples_hold() -> None:
    assert doctest.testmod(export).failed == 0


def vivid(config: GPTConfig) -> GPT:
    """A model whose every weight matters."""
    torch.manual_seed(0)
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
            else:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


V = TOWN.vocab_size
LLAMA = llama_config(V, 64, 2, 4, 32, kv_heads=2, hidden=64)
FORMS = {
    "gpt2": gpt2_config(V, 64, 2, 4, 32),
    "gpt2, untied": gpt2_config(V, 64, 2, 4, 32, tied=False),
    "llama": LLAMA,
    "llama, tied": replace(LLAMA, tied=True, norm_eps=1e-2),
    "llama, slowed": replace(
        LLAMA, rope_base=500.0, rope_factor=8.0, rope_original=16
    ),
    "qwen2": replace(LLAMA, qkv_bias=True),
    "qwen3": replace(LLAMA, qk_norm="rmsnorm", head_size=16),
    "olmo2": replace(LLAMA, qk_norm="rmsnorm_all", norm_order="branch"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each form, exported."""
    base = tmp_path_factory.mktemp("exported")
    found = {}
    for name, form in FORMS.items():
        found[name] = base / name.replace(", ", "-")
        export_folder(found[name], vivid(form), TOWN)
    return found


def opened(folder: Path) -> Any:
    """What `transformers` makes of a folder; it must not invent a weight."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    return model.eval()


@pytest.mark.parametrize("name", FORMS)
@torch.no_grad()
def test_transformers_computes_the_same(
    name: str, folders: dict[str, Path]
) -> None:
    theirs, ours = opened(folders[name]), vivid(FORMS[name])
    ids = torch.randint(V, (2, 64), generator=torch.Generator())
    wanted = ours(ids)
    assert wanted.std() > 0.3
    torch.testing.assert_close(theirs(ids).logits, wanted, rtol=0, atol=1e-4)
    assert theirs.dtype == torch.float32
    assert type(theirs).__name__ == describe(FORMS[name])["architectures"][0]


def test_it_draws_unless_told_otherwise(folders: dict[str, Path]) -> None:
    asked = opened(folders["gpt2"]).generation_config
    assert asked.do_sample
    assert asked.eos_token_id == [TOWN.end_id]
    assert asked.bos_token_id == TOWN.end_id


def test_transformers_writes_the_same(folders: dict[str, Path]) -> None:
    folder = folders["gpt2"]
    theirs = opened(folder)
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    asked = reader("Mrs Pell", return_tensors="pt")
    theirs.generation_config.eos_token_id = None
    written = theirs.generate(**asked, max_new_tokens=20, do_sample=False)
    ids = torch.tensor([TOWN.encode("Mrs Pell")])
    new = generate(vivid(FORMS["gpt2"]), ids, 20, GREEDY)
    assert written[0].tolist() == [*ids[0].tolist(), *(int(t) for t in new)]


@settings(deadline=None, max_examples=50)
@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_the_library_cuts_alike(text: str, folders: dict[str, Path]) -> None:
    reader = tokenizers.Tokenizer.from_file(str(folders["gpt2"] / TOKENS))
    ids = reader.encode(text).ids  # with all that it would add
    assert ids == TOWN.encode(text, allowed_special={END})


def test_the_library_s_reader_adds_nothing(folders: dict[str, Path]) -> None:
    reader = transformers.AutoTokenizer.from_pretrained(folders["gpt2"])
    assert reader(SENTENCE)["input_ids"] == TOWN.encode(SENTENCE)
    assert reader.decode(reader(SENTENCE)["input_ids"]) == SENTENCE
    assert reader.eos_token_id == TOWN.end_id
    assert reader.model_max_length == 64


@pytest.mark.parametrize("name", FORMS)
def test_a_form_comes_back(name: str, folders: dict[str, Path]) -> None:
    model, tokenizer, facts = import_folder(folders[name])
    wanted = vivid(FORMS[name])
    assert settled(model.config) == settled(wanted.config)
    state = model.state_dict()
    for key, tensor in wanted.state_dict().items():
        assert torch.equal(state[key], tensor), key
    assert tokenizer.fingerprint == TOWN.fingerprint
    assert facts["begin"] == []
    assert facts["normal"] is None
    assert not facts["instructed"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mlp": "gelu"}, "mlp='gelu'"),
        ({"bias": False}, "bias=False, qkv_bias=False"),
        ({"norm_order": "post"}, "norm_order='post'"),
        ({"kv_heads": 2}, "kv_heads=2"),
        ({"position": "rotary"}, "norm='layernorm'"),
        ({"qk_norm": "rmsnorm"}, "qk_norm='rmsnorm'"),
    ],
)
def test_a_form_that_nobody_has_is_refused(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    form = replace(FORMS["gpt2"], **change)
    with pytest.raises(ValueError, match=named):
        describe(form)
    for write in (export_folder, export_gguf):
        with pytest.raises(ValueError, match="no published form has"):
            write(tmp_path / "new", GPT(form), TOWN)
    assert not any(tmp_path.iterdir())


def test_what_training_alone_uses_is_no_part_of_the_form() -> None:
    form = FORMS["gpt2"]
    trained = replace(form, dropout=0.1, fused=False, rope_base=99.0)
    assert settled(trained) == settled(form)
    assert describe(trained)["resid_pdrop"] == 0.1
    slow = replace(LLAMA, rope_original=99)
    assert settled(slow) == settled(LLAMA)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fewer_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    form = FORMS["llama"]
    export_folder(tmp_path / "half", vivid(form), TOWN, dtype)
    assert opened(tmp_path / "half").dtype == dtype
    model, _, _ = import_folder(tmp_path / "half")
    wanted = vivid(form).to(dtype).float().state_dict()
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, wanted[key])


# --- models of others --------------------------------------------------------


def published(folder: Path, name: str, **change: Any) -> GPT:
    """A folder as `transformers` writes it, and our model of its weights."""
    model = vivid(FORMS[name])
    source = folder.with_name(folder.name + "-source")
    export_folder(source, model, TOWN)
    theirs = opened(source)
    theirs.save_pretrained(folder, **change)
    shutil.copyfile(source / TOKENS, folder / TOKENS)
    return model


def same(model: GPT, wanted: GPT) -> bool:
    """Whether two models have the same weights."""
    state = wanted.state_dict()
    return all(torch.equal(t, state[k]) for k, t in model.state_dict().items())


def test_shards_are_put_together(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    wanted = published(folder, "qwen3", max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert same(import_folder(folder)[0], wanted)
    lost = shards[1].read_bytes()
    shards[1].unlink()
    with pytest.raises(FileError, match=rf"{shards[1].name} is not there"):
        import_folder(folder)
    shards[1].write_bytes(lost[:-9])
    with pytest.raises(FileError, match=rf"{shards[1].name} is damaged"):
        import_folder(folder)
    shards[1].write_bytes(shards[0].read_bytes())
    with pytest.raises(FileError, match="not one"):
        import_folder(folder)
    index = read_json(folder / INDEX)
    write_json(folder / INDEX, {"weight_map": {"a": "../a.safetensors"}})
    with pytest.raises(FileError, match="outside of its folder"):
        import_folder(folder)
    write_json(folder / INDEX, {**index, "weight_map": []})
    with pytest.raises(FileError, match="the weights have no"):
        import_folder(folder)


def rearranged(folder: Path, order: list[int], rows: int) -> None:
    """Give tokens other numbers, and rows that are no token's."""
    data = json.loads((folder / TOKENS).read_text())
    place = {old: new for new, old in enumerate(order)}
    vocab = data["model"]["vocab"]
    data["model"]["vocab"] = {t: place[i] for t, i in vocab.items()}
    for token in data["added_tokens"]:
        token["id"] = place[token["id"]]
    (folder / TOKENS).write_text(json.dumps(data))
    weights = read_tensors(folder / WEIGHTS)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in weights:
            more = torch.full((rows, weights[name].shape[1]), 7.0)
            weights[name] = torch.cat([weights[name][order], more])
    write_tensors(folder / WEIGHTS, weights)
    config = read_json(folder / CONFIG)
    last = place[TOWN.end_id]
    config |= {"vocab_size": V + rows, "eos_token_id": [9999, last]}
    write_json(folder / CONFIG, config)


@pytest.mark.parametrize("name", ["llama", "llama, tied"])
def test_tokens_of_other_numbers_get_ours(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    wanted = published(folder, name)
    order = torch.randperm(V, generator=torch.Generator()).tolist()
    rearranged(folder, order, rows=5)
    model, tokenizer, _ = import_folder(folder)
    assert model.config.vocab_size == V
    assert same(model, wanted)
    assert tokenizer.fingerprint == TOWN.fingerprint
    theirs = opened(folder)
    ids = torch.tensor([tokenizer.encode(SENTENCE)[:60]])
    place = {old: new for new, old in enumerate(order)}
    there = torch.tensor([[place[i] for i in ids[0].tolist()]])
    with torch.no_grad():
        logits = theirs(there).logits[..., [place[i] for i in range(V)]]
        torch.testing.assert_close(model(ids), logits, rtol=0, atol=1e-4)
    rearranged(folder, list(range(V)), rows=0)  # back, with fewer rows
    weights = read_tensors(folder / WEIGHTS)
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        if key in weights:
            weights[key] = weights[key][:V]
    data = json.loads((folder / TOKENS).read_text())
    data["added_tokens"][0]["id"] = V + 9
    data["model"]["vocab"][data["added_tokens"][0]["content"]] = V + 9
    (folder / TOKENS).write_text(json.dumps(data))
    with pytest.raises(FileError, match=f"token {V + 9} has no row"):
        import_folder(folder)


@pytest.mark.always
def test_habits_of_a_tokenizer_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "habits"
    published(folder, "llama")
    data = json.loads((folder / TOKENS).read_text())
    begins = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [begins, text]}
    data["post_processor"] = {
        "type": "Sequence",
        "processors": [{"type": "ByteLevel"}, template],
    }
    data["normalizer"] = {"type": "NFC"}
    vocab, end = data["model"]["vocab"], data["added_tokens"][0]
    vocab["<|end_of_text|>"] = vocab.pop(end["content"])
    end["content"] = "<|end_of_text|>"
    more = {**data["added_tokens"][0], "id": V, "content": "<|begin|>"}
    data["added_tokens"].append(more)
    (folder / TOKENS).write_text(json.dumps(data))
    weights = read_tensors(folder / WEIGHTS)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.cat([weights[name], weights[name][:1]])
    write_tensors(folder / WEIGHTS, weights)
    config = read_json(folder / CONFIG)
    write_json(folder / CONFIG, {**config, "vocab_size": V + 1})
    (folder / "chat_template.jinja").write_text("{{ 1 / 0 }}")
    _, tokenizer, facts = import_folder(folder)
    assert facts["begin"] == [V]
    assert facts["normal"] == "NFC"
    assert facts["instructed"]
    assert tokenizer.end_id == TOWN.end_id  # it has our name now
    write_json(
        folder / CONFIG, {**config, "vocab_size": V + 1, "eos_token_id": None}
    )
    with pytest.raises(FileError, match="none of its special tokens ends"):
        import_folder(folder)


def digits_first(data: dict[str, Any], **change: Any) -> dict[str, Any]:
    """A tokenizer.json whose words are cut as SmolLM2's are."""
    digits = {"type": "Digits", "individual_digits": True, **change}
    letters = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    steps = {"type": "Sequence", "pretokenizers": [digits, letters]}
    return {**data, "pre_tokenizer": steps}


OLDER = Tokenizer.train(join(write_corpus(20_000)), 350, pattern=GPT2_PATTERN)
SMOL = digits_first(json.loads(to_tokenizers(OLDER)))
DIGITS = tokenizers.Tokenizer.from_str(json.dumps(SMOL))


@settings(deadline=None, max_examples=200)
@given(text=st.text(st.sampled_from("a'sé 12\n\t.²Ⅷ"), max_size=12))
def test_digits_first_is_one_pattern(text: str) -> None:
    ours = Tokenizer(OLDER.merges, OLDER.special_tokens, SINGLE_DIGITS)
    assert ours.encode(text) == DIGITS.encode(text).ids


def test_other_files_stay_as_they_are(tmp_path: Path) -> None:
    plain = json.loads(to_tokenizers(TOWN))
    assert in_one_pattern(plain) == plain
    whole = digits_first(plain, individual_digits=False)
    assert in_one_pattern(whole) == whole
    folder = tmp_path / "smol"
    export_folder(folder, vivid(gpt2_config(350, 32, 1, 2, 16)), OLDER)
    (folder / SEAL).unlink()
    (folder / TOKENS).write_text(json.dumps(SMOL))
    _, tokenizer, _ = import_folder(folder)
    assert tokenizer.pattern == SINGLE_DIGITS
    again = tmp_path / "again"
    export_folder(again, vivid(gpt2_config(350, 32, 1, 2, 16)), tokenizer)
    assert import_folder(again)[1].fingerprint == tokenizer.fingerprint


@pytest.mark.always
def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    published(folder, "llama")
    config = read_json(folder / CONFIG)
    for change, why in (
        ({"model_type": "mamba"}, "model_type='mamba' is not one of"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "a program of its own"),
        ({"hidden_size": 48}, str(folder)),
        ({"num_hidden_layers": 3}, "the weights have no"),
        ({"vocab_size": V + 1}, f"={V + 1}, but there are {V} rows"),
    ):
        write_json(folder / CONFIG, {**config, **change})
        with pytest.raises(ModelFileError, match=why):
            import_folder(folder)
    del config["vocab_size"]
    write_json(folder / CONFIG, config)
    with pytest.raises(ModelFileError, match=r"config.json: has no 'vocab_s"):
        import_folder(folder)
    (folder / WEIGHTS).unlink()
    write_json(folder / CONFIG, {**config, "vocab_size": V})
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ModelFileError, match="may hold a program"):
        import_folder(folder)
    (folder / TOKENS).write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(ModelFileError, match="its model is Unigram"):
        import_folder(folder)
    (folder / TOKENS).unlink()
    with pytest.raises(FileError, match=rf"{TOKENS} is not there"):
        import_folder(folder)


def test_a_sealed_folder_is_verified(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(folders["gpt2"], folder)
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(FileError, match=rf"{WEIGHTS} is not what"):
        import_folder(folder)


# --- folders -----------------------------------------------------------------


def test_nothing_is_written_over(tmp_path: Path) -> None:
    model = vivid(FORMS["gpt2"])
    letter = tmp_path / "mine" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("mine")
    for taken in (letter, letter.parent):
        with pytest.raises(ModelFileError, match="is there already"):
            export_folder(taken, model, TOWN)
        with pytest.raises(ModelFileError, match="is there already"):
            write_run(taken, model, TOWN, {})
    assert [p.name for p in letter.parent.iterdir()] == ["letter.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    export_folder(empty, model, TOWN, others={"README.md": "a card"})
    assert (empty / WEIGHTS).exists()
    assert (empty / "README.md").read_text() == "a card"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "mine"]


def test_of_an_error_nothing_is_left(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "a" / "new") as half:
            (half / "part.txt").write_text("a part")
            raise OSError(28, "No space left on device")

    with pytest.raises(FileError, match="No space left"):
        fill()
    assert not any((tmp_path / "a").iterdir())


def test_a_run_is_made_of_it(tmp_path: Path) -> None:
    model = vivid(FORMS["llama"])
    run = tmp_path / "runs" / "new"
    write_run(run, model, TOWN, {"begin": [3]}, {"LICENSE": "free"})
    assert same(load_model(run), model)
    form, settings_ = read_settings(run)
    assert form == model.config
    assert settings_["data"]["begin"] == [3]
    assert Tokenizer.load(run / TOKENS).fingerprint == TOWN.fingerprint
    assert (run / "LICENSE").read_text() == "free"


def test_the_card_says_what_it_is() -> None:
    model = vivid(FORMS["gpt2"])
    card = model_card(model, "town", {"corpus": "toytown", "loss": "1.5 nats"})
    assert card.startswith("---\nlicense: other\n")
    for word in ("# town", "form of gpt2", "toytown", "1.5 nats", "float32"):
        assert word in card
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in card
    assert "not measured" in model_card(model, "town", {})


# --- dialogues ---------------------------------------------------------------


def test_a_dialogue_gets_the_same_tokens(tmp_path: Path) -> None:
    tokenizer = with_marks(TOWN)
    model = vivid(gpt2_config(V + 3, 64, 1, 2, 16))
    export_folder(tmp_path / "chat", model, tokenizer)
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "chat")
    said = [("user", "Who is Ada Wren?"), ("assistant", "The clockmaker.")]
    said.append(("user", "And <|end|><|assistant|> Yes. <|user|>?"))
    messages = [{"role": who, "content": text} for who, text in said]
    first = encode_turn(tokenizer, Turn(said[0][1], said[1][1]))
    got = reader.apply_chat_template(messages[:2], return_dict=True)
    assert got["input_ids"] == first
    got = reader.apply_chat_template(messages, return_dict=True)["input_ids"]
    marks = {tokenizer.special_tokens[mark] for mark in MARKS}
    assert sum(i in marks for i in got) == 5  # none of them typed
    broken = said[2][1].replace("<|", "< |")
    assert got == [*first, *encode_request(tokenizer, broken)]
    assert reader.eos_token == STOP
    ends = read_json(tmp_path / "chat" / "generation_config.json")
    assert ends["eos_token_id"] == [tokenizer.special_tokens[STOP], V - 1]
    with pytest.raises(Exception, match="only user and assistant"):
        reader.apply_chat_template([{"role": "system", "content": "be good"}])
    assert import_folder(tmp_path / "chat")[2]["instructed"]


# --- GGUF --------------------------------------------------------------------


def turn_pairs(x: Tensor, angle: float) -> Tensor:
    """Rotate channels 2i and 2i + 1 together, one number after the other."""
    c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    out = x.clone()
    for i in range(0, x.shape[-1], 2):
        out[i], out[i + 1] = c * x[i] - s * x[i + 1], c * x[i + 1] + s * x[i]
    return out


def test_paired_rows_give_the_same_scores() -> None:
    q, k = torch.randn(2, 8, 5).unbind()  # two heads of four channels
    x, y = torch.randn(2, 5).unbind()
    a, b = (q @ x).view(2, 4), (k @ y).view(2, 4)
    c, d = (pairs_from_halves(m, 4) @ v for m, v in ((q, x), (k, y)))
    assert torch.allclose((a * b).sum(1), (c * d).view(2, 4).sum(1), atol=1e-5)
    half = torch.cat(
        [a[0, :2] * 0.6 - a[0, 2:] * 0.8, a[0, 2:] * 0.6 + a[0, :2] * 0.8]
    )
    whole = turn_pairs(c.view(2, 4)[0], float(torch.tensor(0.6).acos()))
    assert torch.allclose(whole[[0, 2, 1, 3]], half, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0"])
@pytest.mark.parametrize("name", FORMS)
def test_the_library_reads_what_was_written(
    name: str, dtype: str, tmp_path: Path
) -> None:
    model, path = vivid(FORMS[name]), tmp_path / "model.gguf"
    export_gguf(path, model, TOWN, dtype, "town")
    reader = gguf.GGUFReader(path)
    field = {key: f.contents() for key, f in reader.fields.items()}
    assert field["general.architecture"] == name.split(",")[0]
    assert field["tokenizer.ggml.eos_token_id"] == TOWN.end_id
    assert not field["tokenizer.ggml.add_bos_token"]
    assert len(field["tokenizer.ggml.tokens"]) == V
    wanted = gguf_tensors(model)
    found = {t.name: t for t in reader.tensors}
    assert found.keys() == wanted.keys()
    slowed = FORMS[name].rope_factor != 1
    assert ("rope_freqs.weight" in found) == slowed
    for key, tensor in wanted.items():
        kind = found[key].tensor_type
        got = torch.tensor(gguf.dequantize(found[key].data, kind))
        assert got.shape == tensor.shape
        bound = {"F32": 0.0, "F16": 2e-3, "Q8_0": 2e-2}[kind.name]
        torch.testing.assert_close(got, tensor, rtol=0, atol=bound)
        if tensor.ndim == 1 or key.startswith("position"):
            assert kind.name == "F32"
        else:
            assert kind.name == dtype.upper().replace("FLOAT", "F")
    assert path.stat().st_size > 0
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("name", FORMS)
def test_the_file_tells_the_form(name: str, tmp_path: Path) -> None:
    form, family = FORMS[name], name.split(",")[0]
    export_gguf(tmp_path / "model.gguf", vivid(form), TOWN)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    own = {
        key.removeprefix(f"{family}."): field.contents()
        for key, field in reader.fields.items()
        if key.startswith(f"{family}.")
    }
    norm = "layer_norm" if form.norm == "layernorm" else "layer_norm_rms"
    wanted = {
        "context_length": form.context,
        "embedding_length": form.channels,
        "block_count": form.layers,
        "feed_forward_length": form.inner,
        "vocab_size": V,
        "attention.head_count": form.heads,
        "attention.head_count_kv": form.key_heads,
        f"attention.{norm}_epsilon": pytest.approx(form.norm_eps),
    }
    if form.position == "rotary":
        size = form.channels_per_head
        wanted |= {
            "rope.dimension_count": size,
            "rope.freq_base": pytest.approx(form.rope_base),
            "attention.key_length": size,
            "attention.value_length": size,
        }
    assert own == wanted


def test_rows_that_are_no_multiple_keep_sixteen_bits(tmp_path: Path) -> None:
    model = vivid(gpt2_config(V, 16, 1, 2, 24))
    export_gguf(tmp_path / "m.gguf", model, with_marks(TOWN), "q8_0")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    kinds = {t.name: t.tensor_type.name for t in reader.tensors}
    assert kinds["blk.0.attn_qkv.weight"] == "F16"  # rows of 24
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # rows of 96
    template = reader.fields["tokenizer.chat_template"].contents()
    assert "only user and assistant speak" in template


def test_a_cut_without_a_name_is_refused(tmp_path: Path) -> None:
    odd = Tokenizer(TOWN.merges, TOWN.special_tokens, r"\p{L}+")
    with pytest.raises(ValueError, match="no name for the pattern"):
        export_gguf(tmp_path / "m.gguf", vivid(FORMS["gpt2"]), odd)
    assert not any(tmp_path.iterdir())


def test_numbers_without_a_token_are_refused(tmp_path: Path) -> None:
    gap = Tokenizer([], {END: 300})
    model = vivid(replace(FORMS["gpt2"], vocab_size=301))
    with pytest.raises(ValueError, match="numbers without a token"):
        export_gguf(tmp_path / "x.gguf", model, gap)


def test_all_files_may_be_read_by_the_same_people(tmp_path: Path) -> None:
    export_folder(tmp_path / "x", vivid(FORMS["gpt2"]), TOWN)
    modes = {p.stat().st_mode for p in (tmp_path / "x").iterdir()}
    assert len(modes) == 1


def test_two_tokens_in_front_of_a_text_are_refused(tmp_path: Path) -> None:
    model = vivid(FORMS["gpt2"])
    with pytest.raises(ValueError, match="2 tokens in front of a text"):
        export_gguf(tmp_path / "m.gguf", model, TOWN, begin=(1, 2))
    assert not any(tmp_path.iterdir())


def test_a_word_that_merges_do_not_make_is_refused(tmp_path: Path) -> None:
    """By the name of Llama it would be one token, and ours makes it two."""
    merges = [(97, 98), (98, 99), (97, 257)]  # ab, bc, a bc
    odd = Tokenizer(merges, {END: 259}, LLAMA_PATTERN)
    assert odd.encode("abc") == [256, 99]
    model = vivid(replace(LLAMA, vocab_size=260))
    with pytest.raises(ExchangeError, match="the word 'abc' as one token"):
        export_gguf(tmp_path / "odd.gguf", model, odd)
    assert not any(tmp_path.iterdir())
