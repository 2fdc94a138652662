from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.text import Block
from protocols.crdt.text_spans import Bound, Item, Span, Spans, span_after, visible_after

BLOCK = Block(None, b"")

steps = st.lists(
    st.tuples(st.sampled_from(("insert", "insert", "bound", "split", "hide", "extend", "locate")), st.integers(0, 999)),
    max_size=60,
)


class Model:
    """The same list, without chunks."""

    def __init__(self) -> None:
        first = Span(BLOCK, 0, "", 1, 0)
        self.spans = Spans(first)
        self.items: list[Item] = [first]

    def insert(self, item: Item, place: int) -> None:
        index = place % len(self.items)
        self.spans.insert(item, self.items[index])
        self.items.insert(index + 1, item)

    def visible(self) -> list[Span]:
        return [each for each in self.items if isinstance(each, Span) and each.visible]

    def check(self) -> None:
        item, found = self.items[0], []
        for _ in self.items:
            found.append(item)
            assert item.after.before is item
            item = item.after
        assert found == self.items
        assert item is self.items[0]
        assert list(self.spans) == self.visible()
        letters = [(span, index) for span in self.visible() for index in range(span.length)]
        assert self.spans.visible == len(letters)
        assert [self.spans.locate(position) for position in range(len(letters))] == letters
        following = [each for each in self.items[1:] if isinstance(each, Span)]
        if following:
            assert span_after(self.items[0]) is following[0]
        if letters:
            assert visible_after(self.items[0]) is letters[0][0]


@settings(max_examples=80, deadline=None)
@given(steps, st.integers(0, 150))
def test_the_list_is_what_a_plain_list_would_be(steps: list[tuple[str, int]], before: int) -> None:
    model = Model()
    for number in range(before):  # enough for chunks to divide
        model.insert(Bound(BLOCK, 0, 0) if number % 3 else Span(BLOCK, 0, "abc", 3, 3), number * 7)
    for kind, place in steps:
        spans = model.visible()
        match kind:
            case "insert":
                model.insert(Span(BLOCK, 0, "defg", 4, 4), place)
                model.spans.forget_position()
            case "bound":
                model.insert(Bound(BLOCK, 0, 0), place)
            case "locate" if model.spans.visible:
                model.spans.locate(place % model.spans.visible)
            case _ if spans:
                span = spans[place % len(spans)]
                if kind == "hide":
                    model.spans.hide(span)
                elif kind == "extend":
                    model.spans.extend(span, "xy")
                elif span.length > 1:
                    rest = model.spans.split(span, 1 + place % (span.length - 1))
                    model.items.insert(model.items.index(span) + 1, rest)
                    assert span.following is rest
                if kind != "split":
                    model.spans.forget_position()
            case _:
                pass
    model.check()
