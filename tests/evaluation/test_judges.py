"""Extractors that are networks: those with weights of their own are tiny ones with random weights here."""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from torch.nn import functional as F

from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.data.images import Digits
from aigc_lab.data.samples import Images, Texts
from aigc_lab.data.text import TextFile
from aigc_lab.data.tokenizing import ByBytes
from aigc_lab.errors import UserError
from aigc_lab.evaluation.features import CLIP, ByteTransformer, CausalLM, DINOv2, Features, InceptionV3, Pixels
from aigc_lab.evaluation.features.images import resized

WORDS = ["the cat sat", "a dog ran off", "on the mat", "it was late"]


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits(batch_size=8, levels=None, held_out=0.25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def sentences(folder: Path) -> TextFile:
    rng = torch.Generator().manual_seed(0)
    order = torch.randint(len(WORDS), (1500,), generator=rng).tolist()
    (folder / "text.txt").write_text(" ".join(WORDS[i] for i in order))
    return TextFile(
        path=str(folder / "text.txt"),
        name=None,
        pattern="*",
        separator=None,
        batch_size=8,
        context=32,
        tokenizer=ByBytes(),
        packing=False,
        passage=64,
        held_out=0.2,
    )


def byte_transformer(**changes: int) -> ByteTransformer:
    sizes = {"context": 64, "width": 32, "n_layers": 1, "n_heads": 2, "steps": 60, "batch_size": 8, "dim": 6}
    return ByteTransformer(**{**sizes, "lr": 1e-2, "fit_on": 200, "seed": 0, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def judge(sentences: TextFile, folder: Path) -> Iterator[Features]:
    yield byte_transformer().fit(sentences, folder)


def test_resizing_is_eight_bits_in_three_channels_antialiased() -> None:
    stripes = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    stripes[..., ::2] = 16
    small = resized(Images(stripes, 17), 4)
    assert small.shape == (1, 3, 4, 4) and small.dtype == torch.uint8
    inside = small[..., 1:-1].int()
    assert (inside - 128).abs().max() <= 1, "a mean of black and white, where a subsample would give one of them"
    same = resized(Images(stripes, 17), 8)
    assert torch.equal(same[:, 0], stripes[:, 0] // 16 * 255)


def test_pixels_as_they_are_and_averaged(digits: Digits, tmp_path: Path) -> None:
    images = digits.real("held_out")[:10]
    whole = Pixels(size=8).fit(digits, tmp_path)
    assert torch.equal(whole(images), images.pixels.flatten(1).double() / 16)
    small = Pixels(size=4).fit(digits, tmp_path)
    assert small(images).shape == (10, 16) and small(images).max() <= 1
    assert small.content_hash != whole.content_hash


def test_a_byte_transformer_is_a_judge_of_its_training_text(judge: Features, sentences: TextFile) -> None:
    held_out = sentences.real("held_out").passages
    shuffled = [bytes(p[i] for i in torch.randperm(len(p)).tolist()) for p in held_out]
    assert judge.judge is not None
    real, broken = (-judge.judge(texts).mean() / 64 / math.log(2) for texts in (held_out, shuffled))
    assert real < 2.5 < 4 < broken, "bits per byte"
    points = judge(Texts(held_out))
    assert points.shape == (len(held_out), 6) and points.dtype == torch.float64


def test_a_judge_obeys_the_chain_rule(judge: Features) -> None:
    """log p(ab) = log p(a) + log p(b | a), and batches of unequal lengths do not mix."""
    assert judge.judge is not None
    first, second = [b"the cat", b"on", b""], [b" sat on", b" the mat it was", b"late"]
    whole = judge.judge([a + b for a, b in zip(first, second, strict=True)])
    assert torch.allclose(whole, judge.judge(first) + judge.judge(second, first), atol=1e-4)
    assert torch.allclose(whole[1:2], judge.judge([first[1] + second[1]]), atol=1e-5)


def test_a_byte_transformer_is_trained_once(judge: Features, sentences: TextFile, folder: Path) -> None:
    (cached,) = folder.rglob("byte-transformer-*.safetensors")
    before, state = cached.stat().st_mtime_ns, torch.get_rng_state()
    again = byte_transformer().fit(sentences, folder)
    assert cached.stat().st_mtime_ns == before and again.content_hash == judge.content_hash
    assert torch.equal(torch.get_rng_state(), state), "global random numbers are left alone"
    texts = sentences.real("held_out")[:5]
    assert torch.equal(again(texts), judge(texts))
    assert byte_transformer(seed=1, steps=1).fit(sentences, folder).content_hash != judge.content_hash
    with pytest.raises(UserError, match="must divide into"):
        byte_transformer(width=33).fit(sentences, folder)


def save_gpt2(folder: Path) -> None:
    """A GPT-2 of random weights, with a tokenizer whose symbols are the 256 bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*alphabet, "<s>"])}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    torch.manual_seed(0)
    sizes = GPT2Config(vocab_size=257, n_positions=40, n_embd=16, n_layer=1, n_head=2, bos_token_id=256)
    GPT2LMHeadModel(sizes).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokens, bos_token="<s>").save_pretrained(folder)


def test_a_causal_lm_from_a_folder(sentences: TextFile, folder: Path) -> None:
    from transformers import GPT2LMHeadModel

    save_gpt2(folder / "gpt2")
    found = CausalLM(model=str(folder / "gpt2"), dim=4, fit_on=50, seed=0).fit(sentences, folder)
    assert found(sentences.real("held_out")[:7]).shape == (7, 4)
    assert found.judge is not None
    model = GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
    tokens = torch.tensor([[256, *(sorted_bytes().index(b) for b in b"the cat")]])
    with torch.inference_mode():
        by_hand = -F.cross_entropy(model(tokens[:, :-1]).logits[0], tokens[0, 1:], reduction="sum")
    assert float(found.judge([b"the cat"])) == pytest.approx(float(by_hand), rel=1e-5)
    given = found.judge([b" cat"], [b"the"]) + found.judge([b"the"])
    assert float(given) == pytest.approx(float(by_hand), rel=1e-5)
    assert found.judge([b"x" * 200]).isfinite().all(), "longer than its context"


def sorted_bytes() -> list[int]:
    """The bytes in the order of the tokenizer above."""
    from tokenizers import pre_tokenizers

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    symbol = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
    return [symbol[c] for c in sorted(pre_tokenizers.ByteLevel.alphabet())]


def test_every_option_of_the_group_composes_and_is_built() -> None:
    composer = Composer()
    for kind in ("image", "text"):
        for option in composer.options(f"evaluation/features/{kind}"):
            model = ["evaluation.features.text.model=folder"] if option == "causal_lm" else []
            config = composer.evaluate([f"evaluation/features/{kind}={option}", *model])
            assert hasattr(build(config.evaluation.features[kind], path=f"evaluation.features.{kind}"), "fit")
    config = composer.evaluate(["evaluation/features/image@evaluation.features.unlabelled_image=pixels"])
    assert config.evaluation.features["unlabelled_image"]["_target_"].endswith("Pixels")


def test_dinov2_and_clip_from_folders(digits: Digits, folder: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**small, mlp_ratio=2, image_size=28, patch_size=14)).save_pretrained(folder / "dino")
    config = CLIPVisionConfig(**small, intermediate_size=32, projection_dim=8, image_size=32, patch_size=16)
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "clip")
    images = digits.real("held_out")[:9]
    dino = DINOv2(model=str(folder / "dino"), size=28).fit(digits, folder)
    clip = CLIP(model=str(folder / "clip")).fit(digits, folder)
    assert dino(images).shape == (9, 16) and clip(images).shape == (9, 8)
    assert dino(images).dtype == torch.float64 and len({dino.content_hash, clip.content_hash}) == 2
    assert (dino.name, clip.name) == ("dino@28", "clip") and (dino.clip, clip.clip) == (False, True)
    with pytest.raises(UserError, match=r"lacks most of its weights|cannot load"):
        CLIP(model=str(folder / "dino")).fit(digits, folder)


@pytest.mark.parametrize(
    "extractor",
    [
        DINOv2(model="nobody/nothing", size=28),
        CLIP(model="/no/such/folder"),
        InceptionV3(weights="/no/such/file.pth"),
        CausalLM(model="nobody/nothing", dim=4, fit_on=10, seed=0),
    ],
)
def test_weights_that_are_not_there_get_one_line(
    extractor: DINOv2 | CLIP | InceptionV3 | CausalLM, digits: Digits, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"nobody/nothing|/no/such") as answer:
        extractor.fit(digits, tmp_path)
    assert "\n" not in str(answer.value)


def test_an_id_is_fetched_where_that_is_asked_for_and_only_there(
    sentences: TextFile, digits: Digits, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is a folder here; what was fetched is what lies there, whoever asks for it."""
    from transformers import Dinov2Config, Dinov2Model

    save_gpt2(folder / "fetched")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**small, mlp_ratio=2, image_size=28, patch_size=14)).save_pretrained(folder / "seen")
    fetched: list[str] = []

    def fetch(repo_id: str, *, allow_patterns: list[str]) -> str:
        fetched.append(f"{repo_id} {allow_patterns[-1]}")
        return str(folder / repo_id.removeprefix("lab/"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    asked = CausalLM(model="lab/fetched", dim=4, fit_on=50, seed=0, download=True)
    known = CausalLM(model=str(folder / "fetched"), dim=4, fit_on=50, seed=0)
    assert asked.fit(sentences, tmp_path).judge is not None
    assert repr(asked) == repr(replace(asked, download=False)), "its hash does not know how it came here"
    assert DINOv2(model="lab/seen", size=28, download=True).fit(digits, tmp_path).name == "seen@28"
    assert fetched == ["lab/fetched *.model", "lab/fetched model*.safetensors", "lab/seen model*.safetensors"]
    known.fit(sentences, tmp_path)
    with pytest.raises(UserError, match=r"cannot load lab/seen .*no such id in the local cache.*download=true"):
        DINOv2(model="lab/seen", size=28).fit(digits, tmp_path)
    assert len(fetched) == 3

    def fail(repo_id: str, *, allow_patterns: list[str]) -> str:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=r"^cannot load lab/seen \(cannot be fetched from the hub: no route\);"):
        DINOv2(model="lab/seen", size=28, download=True).fit(digits, tmp_path)


def test_a_file_that_would_execute_something_is_not_inception(digits: Digits, tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    marker = tmp_path / "executed"

    class Malice:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (marker,)  # type: ignore[return-value]

    torch.save({"weight": Malice()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="does not hold Inception-v3"):
        InceptionV3(weights=str(tmp_path / "weights.pth")).fit(digits, tmp_path)
    assert not marker.exists()


def test_inception_of_random_weights(digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is torch-fidelity's own; its 24 million weights are drawn here."""
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    with monkeypatch.context() as patched, torch.device("meta"):
        patched.setattr(theirs.torch, "load", lambda *args, **kwargs: {})
        patched.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patched.setattr(theirs.FeatureExtractorInceptionV3, "to", lambda self, dtype: self)
        shapes = theirs.FeatureExtractorInceptionV3("inception", ["2048"], "none").state_dict()
    state = {name: torch.rand(t.shape).to(t.dtype) * 0.05 for name, t in shapes.items()}

    def fetch(url: str, path: str, *, hash_prefix: str, progress: bool) -> None:
        assert url.endswith(f"{hash_prefix}.pth") and hash_prefix == "6726825d"
        torch.save(state, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    found = InceptionV3(weights=str(tmp_path / "new/inception.pth"), download=True).fit(digits, tmp_path)
    points = found(digits.real("held_out")[:2])
    assert points.shape == (2, 2048) and found.classify is not None
    assert found.classify(points).sum(1).tolist() == pytest.approx([1, 1])
    assert "torch_fidelity" in sys.modules
