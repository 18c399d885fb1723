"""CLIP's own tokenizer as a tokenizer.json, made of the merges that the package open_clip ships.

Its ids are those of open_clip.tokenize (Radford et al. 2021; byte-pair encoding, Sennrich et al. 2016), which first
repairs text by the package ftfy and html.unescape. Of that, what can be said as a replacement of characters is done
here as well: curly quotes, ligatures, full width, control characters, the five entities of XML and the blank of HTML.
Text that was decoded wrongly (mojibake) and the other entities are taken as they are.
"""

from __future__ import annotations

import json
from typing import Any

from imagier.models.architectures import needed

START, END = "<start_of_text>", "<end_of_text>"
WORDS = START + "|" + END + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""open_clip/tokenizer.py, SimpleTokenizer.pat."""
ENTITIES = (("&amp;", "&"), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"),
            ("&apos;", "'"), ("&nbsp;", " "))  # fmt: skip
"""Twice for the first: it is unescaped twice."""
CONTROL = r"[\x00-\x08\x0B\x0E-\x1F\x7F\u206A-\u206F\uFEFF\uFFF9-\uFFFC]"
"""ftfy/chardata.py, CONTROL_CHARS: dropped."""
FINAL_SIGMA = r"(?<=\p{L})\u03A3(?!\p{L})"
"""Python's lower() knows that it is another letter there."""


def clip_tokenizer(length: int) -> str:
    """The text of tokenizer.json: ids between START and END, cut to `length` of them, filled up with 0."""
    tokenizers = needed("tokenizers", "CLIP's tokenizer")
    ours = needed("open_clip.tokenizer", "CLIP's tokenizer").SimpleTokenizer()
    merges = sorted(ours.bpe_ranks, key=ours.bpe_ranks.__getitem__)
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=ours.encoder, merges=merges, end_of_word_suffix="</w>", unk_token=END)
    )
    made.normalizer = _cleaned(tokenizers)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(WORDS), behavior="removed", invert=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.add_special_tokens([tokenizers.AddedToken(each, special=True, normalized=True) for each in (START, END)])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{START} $0 {END}", special_tokens=[(each, ours.encoder[each]) for each in (START, END)]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    made.enable_truncation(length)
    made.enable_padding(length=length, pad_id=0, pad_token="!")
    return json.dumps(json.loads(made.to_str()), ensure_ascii=False, separators=(",", ":"))


def _cleaned(tokenizers: Any) -> Any:
    """What is done to text before it is split into words."""
    known = needed("ftfy.chardata", "CLIP's tokenizer")
    swap, pattern = tokenizers.normalizers.Replace, tokenizers.Regex
    mapped = {chr(code): to for code, to in (known.LIGATURES | known.WIDTH_MAP).items()}
    steps = [swap(entity, by) for entity, by in ENTITIES]
    steps += [swap(character, by) for character, by in mapped.items()]
    steps += [swap(pattern(known.SINGLE_QUOTE_RE.pattern), "'"), swap(pattern(known.DOUBLE_QUOTE_RE.pattern), '"')]
    steps += [swap(pattern(CONTROL), ""), tokenizers.normalizers.NFC()]
    steps += [swap(pattern(r"\s+"), " "), tokenizers.normalizers.Strip()]
    steps += [swap(pattern(FINAL_SIGMA), "ς"), tokenizers.normalizers.Lowercase()]
    return tokenizers.normalizers.Sequence(steps)
