"""What is in a page, read with a parser."""

import html.parser

_VOID = {"meta", "link", "br", "wbr", "img"}


class Element:
    """An element of a page and what is in it."""

    def __init__(self, tag, attributes):
        self.tag, self.attributes, self.children = tag, attributes, []

    def find(self, tag, **attributes):
        """Returns all elements inside of a tag, and of a class if one is named (`class_="ranking"`)."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag and set(attributes.values()) <= set(child.attributes.get("class", "").split()):
                    found.append(child)
                found += child.find(tag, **attributes)
        return found

    @property
    def raw_text(self):
        """What stands there: elements stand apart but for names, and where these may be broken."""
        parts = []
        for child in self.children:
            if isinstance(child, str):
                parts.append(child)
            elif child.tag not in ("style", "script", "wbr"):
                parts.append(child.raw_text if child.tag == "bdi" else f" {child.raw_text} ")
        return "".join(parts)

    @property
    def text(self):
        return " ".join(self.raw_text.split())


class Page(html.parser.HTMLParser):
    """Reads a page, and makes sure that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.root = Element("", {})
        self.open, self.elements = [self.root], []
        self.feed(text)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag, attributes):
        element = self.handle_startendtag(tag, attributes)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        element = Element(tag, dict(attributes))
        self.elements.append((tag, element.attributes))
        self.open[-1].children.append(element)
        return element

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].children.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def find(self, tag, **attributes):
        return self.root.find(tag, **attributes)

    @property
    def text(self):
        return self.root.text


def rows_of(table):
    """Returns the texts of a table's cells, row by row."""
    return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in table.find("tr")]
