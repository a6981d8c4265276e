# SPDX-License-Identifier: Apache-2.0
"""Texts, languages and documents."""

from __future__ import annotations

from typing import Any

from .table import Lazy, by, calls, library, points, put, sets

TEXTS = ["the cat sat on the mat", "a dog ran home", "the dog and the cat", "a mat at home"] * 5
WORDS = [text.split() for text in TEXTS]

# ---- NLTK ----------------------------------------------------------------------------------------

nl = Lazy("nltk")
nltk = library("nltk")
nltk("Tree", lambda: nl.Tree.fromstring("(S (NP (D the) (N cat)) (VP (V sat)))"), put(0, "it"))
nltk("FreqDist", lambda: nl.FreqDist(word for words in WORDS for word in words), put("new", 3))
nltk(
    "ConditionalFreqDist",
    lambda: nl.ConditionalFreqDist((word, len(word)) for words in WORDS for word in words),
    lambda table: table["new"].update([1]),
)
nltk(
    "NaiveBayesClassifier",
    lambda: nl.NaiveBayesClassifier.train(
        [({"last": word[-1]}, "short" if len(word) < 4 else "long") for word in WORDS[0] + WORDS[1]]
    ),
    lambda model: model._feature_probdist.popitem() and None,
    by(
        lambda model: model.prob_classify({"last": "e"}).prob("long"),
        lambda m: len(m._feature_probdist),
    ),
)
nltk(
    "PorterStemmer",
    lambda: nl.PorterStemmer(),
    sets("mode", "ORIGINAL_ALGORITHM"),
    by(lambda s: s.stem("flies"), lambda s: s.mode),
)
nltk(
    "CFG",
    lambda: nl.CFG.fromstring("S -> 'a' S | 'b'"),
    lambda g: nl.CFG.fromstring("S -> 'c'"),
    by(str),
)
nltk(
    "lm.MLE",
    lambda: _language_model(),
    lambda model: model.counts[["the"]].update(["new"]) and None,
    by(lambda model: (model.score("cat", ["the"]), sorted(model.vocab))),
)
nltk(
    "Text",
    lambda: nl.Text(WORDS[0], "t"),
    sets("name", "new"),
    by(lambda text: (text.tokens, text.name)),
)


def _language_model() -> Any:
    lm = Lazy("nltk.lm")
    model = lm.MLE(2)
    model.fit(*lm.preprocessing.padded_everygram_pipeline(2, WORDS))
    return model


# ---- Gensim --------------------------------------------------------------------------------------

gs = Lazy("gensim")
gensim = library("gensim")


def _dictionary() -> Any:
    return gs.corpora.Dictionary(WORDS)


def _corpus() -> Any:
    words = _dictionary()
    return words, [words.doc2bow(text) for text in WORDS]


gensim(
    "corpora.Dictionary",
    _dictionary,
    calls("add_documents", [["new"]]),
    by(lambda d: d.token2id),
)
gensim(
    "models.Word2Vec",
    lambda: gs.models.Word2Vec(WORDS, vector_size=8, min_count=1, workers=1, seed=1, hashfxn=len),
    lambda model: model.wv.vectors.__setitem__((0, 0), 9.0),
    by(lambda model: model.wv.vectors, lambda model: model.wv.index_to_key),
)
gensim(
    "models.KeyedVectors",
    lambda: _vectors(),
    lambda model: model.vectors.__setitem__((0, 0), 9.0),
    by(lambda model: model.vectors, lambda model: model.key_to_index),
)
gensim(
    "models.TfidfModel",
    lambda: gs.models.TfidfModel(_corpus()[1]),
    lambda model: model.idfs.update({0: 9.0}),
    by(lambda model: model[_corpus()[1][0]]),
)
gensim(
    "models.LdaModel",
    lambda: gs.models.LdaModel(_corpus()[1], 2, _corpus()[0], random_state=1),
    lambda model: model.expElogbeta.__setitem__((0, 0), 9.0),
    by(lambda model: model.get_topics(), lambda model: model.expElogbeta),
)
gensim(
    "models.Phrases",
    lambda: gs.models.Phrases(WORDS, min_count=1, threshold=0.1),
    sets("threshold", 5.0),
    by(lambda model: (model[WORDS[0]], model.threshold)),
)


def _vectors() -> Any:
    vectors = gs.models.KeyedVectors(5)
    vectors.add_vectors([f"w{i}" for i in range(20)], points()[:20])
    return vectors


# ---- spaCy ---------------------------------------------------------------------------------------

sy = Lazy("spacy")
spacy = library("spacy")


def _pipeline() -> Any:
    nlp = sy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "ANIMAL", "pattern": "cat"}])
    return nlp


spacy(
    "language.Language",
    _pipeline,
    lambda nlp: nlp.remove_pipe("sentencizer") and None,
    by(lambda nlp: (nlp.pipe_names, [str(e) for e in nlp(TEXTS[0]).ents])),
)
spacy(
    "tokens.Doc",
    lambda: _pipeline()(TEXTS[0]),
    lambda doc: setattr(doc[1], "lemma_", "new"),
    by(lambda doc: [(t.text, t.lemma_) for t in doc], lambda doc: [e.label_ for e in doc.ents]),
)
spacy(
    "tokens.DocBin",
    lambda: sy.tokens.DocBin(docs=[_pipeline()(text) for text in TEXTS[:3]]),
    lambda bin_: bin_.add(_pipeline()("new")),
    by(lambda bin_: bin_.to_bytes()),
)
spacy(
    "vocab.Vocab",
    lambda: _pipeline().vocab,
    lambda vocab: vocab.strings.add("something new") and None,
    by(lambda vocab: sorted(vocab.strings)),
)
spacy(
    "strings.StringStore", lambda: sy.strings.StringStore(WORDS[0]), calls("add", "new"), by(sorted)
)
spacy(
    "matcher.Matcher",
    lambda: _matcher(),
    calls("remove", "cat"),
    by(lambda matcher: (len(matcher), matcher(sy.tokens.Doc(matcher.vocab, WORDS[0])))),
)


def _matcher() -> Any:
    matcher = sy.matcher.Matcher(sy.blank("en").vocab)
    matcher.add("cat", [[{"LOWER": "cat"}]])
    matcher.add("on", [[{"LOWER": "on"}]])
    return matcher


# ---- documents and words -------------------------------------------------------------------------

tokenizers = library("tokenizers")


def _tokenizer() -> Any:
    tk = Lazy("tokenizers")
    tokenizer = tk.Tokenizer(tk.models.WordLevel(unk_token="?"))
    tokenizer.pre_tokenizer = tk.pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        TEXTS, tk.trainers.WordLevelTrainer(special_tokens=["?"], show_progress=False)
    )
    return tokenizer


tokenizers(
    "Tokenizer",
    _tokenizer,
    calls("add_tokens", ["new"]),
    by(lambda t: t.encode(TEXTS[0]).ids, lambda t: sorted(t.get_vocab().items())),
)

HTML = "<html><body><p class='a'>One</p><p>Two <b>bold</b></p></body></html>"
soup = library("beautifulsoup4", "bs4")
soup(
    "BeautifulSoup",
    lambda: Lazy("bs4").BeautifulSoup(HTML, "html.parser"),
    lambda s: s.p.__setitem__("class", "new"),
    by(str),
)
soup("Tag", lambda: Lazy("bs4").BeautifulSoup(HTML, "html.parser").p, put("id", "new"), by(str))

lxml = library("lxml")
lxml(
    "etree._Element",
    lambda: Lazy("lxml.etree").fromstring("<a><b x='1'/></a>"),
    calls("set", "k", "v"),
    broken=True,
    limitation="lxml gives no way to pickle it; keep etree.tostring of it, or lxml.objectify's",
)
lxml(
    "objectify.ObjectifiedElement",
    lambda: Lazy("lxml.objectify").fromstring("<a><b>1</b><c>t</c></a>"),
    calls("set", "k", "v"),
    by(lambda element: Lazy("lxml.etree").tostring(element)),
)

rdf = Lazy("rdflib")
rdflib = library("rdflib")


def _triples() -> Any:
    graph = rdf.Graph(identifier=rdf.URIRef("http://example.org/graph"))
    for i in range(20):
        graph.add((rdf.URIRef(f"http://example.org/{i}"), rdf.RDF.value, rdf.Literal(i)))
    return graph


rdflib(
    "Graph",
    _triples,
    lambda graph: graph.remove((None, None, rdf.Literal(3))) and None,
    by(lambda graph: set(graph)),
)
rdflib("Literal", lambda: rdf.Literal(5), lambda literal: rdf.Literal(6))

faker = library("faker")


def _faker() -> Any:
    fake = Lazy("faker").Faker("en_US")
    fake.seed_instance(5)
    return fake


faker("Faker", _faker, calls("name"), by(lambda fake: fake.random.getstate()))

bio = Lazy("Bio")
biopython = library("biopython", "Bio")
biopython("Seq", lambda: bio.Seq.Seq("ACGT" * 20), lambda seq: seq.complement(), by(str))
biopython(
    "SeqRecord",
    lambda: bio.SeqRecord.SeqRecord(bio.Seq.Seq("ACGT"), id="x", annotations={"k": 1}),
    sets("id", "y"),
    by(lambda record: (str(record.seq), record.id, record.annotations)),
)

rich = library("rich")


def _printed(thing: Any) -> str:
    console = Lazy("rich.console").Console(width=60, file=Lazy("io").StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(thing)
    return str(capture.get())


rich("text.Text", lambda: Lazy("rich.text").Text("hello", style="bold"), calls("append", " you"))
rich("table.Table", lambda: _rich_table(), calls("add_row", "new"), by(_printed))


def _rich_table() -> Any:
    table = Lazy("rich.table").Table("a", title="t")
    table.add_row("x")
    return table


regex = library("regex")
regex(
    "Pattern",
    lambda: Lazy("regex").compile(r"(?P<a>\p{L}+)"),
    lambda p: Lazy("regex").compile("b"),
    by(lambda p: p.pattern, lambda p: p.flags),
)

tqdm = library("tqdm")
tqdm(
    "tqdm",
    lambda: Lazy("tqdm").tqdm(range(5), file=Lazy("sys").stderr, disable=False),
    calls("update", 1),
    broken=True,
    limitation="belongs to the terminal and to a lock of the process",
)
