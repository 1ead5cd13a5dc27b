"""Every name of TensorRT that a source file uses, found in its syntax tree.

What holds an object of TensorRT is known by its annotation (`edge.engines.tensorrt.names`): an
argument, a variable, a field, what a function returns. `trt.X` is the class X. From there each
attribute that is read, set, deleted or asked for by getattr and hasattr is a `Use`. Where an object
gets a name without an annotation, or a name is asked of an object that has none, the file is at
fault: its uses could not be checked.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from edge.engines.tensorrt import names

API = frozenset(names.__all__)
MODULE = ""
_MARK = re.compile(r"# trt: (from|until|not in|only in) (\S+)")
_VALUE = ("name", "value", "nbytes")  # of an enum's member, of a buffer


class Use(NamedTuple):
    """`kind` is "use" or, for hasattr, "test"."""

    line: int
    owner: str
    name: str
    kind: str


class File(NamedTuple):
    versions: Optional[Tuple[str, str]]
    uses: Tuple[Use, ...]
    faults: Tuple[str, ...]
    marks: Dict[int, List[Tuple[str, str]]]  # line -> [("from", "8.4.1")]


class Typed(NamedTuple):
    """An expression's type: of the class or enum itself, of an object, or of what it gave out."""

    what: str  # "class", "object", "given"
    name: str


def read_file(source: str, fields: Dict[str, str], returns: Dict[str, str]) -> File:
    """The uses of one file; `fields` and `returns` are those of all files, see `declared`."""
    tree = ast.parse(source)
    reader = _Reader(fields, returns, tree)
    reader.visit(tree)
    return File(_versions(tree), tuple(reader.uses), tuple(reader.faults), _marks(source))


def declared(sources: List[str]) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Field name -> class and function name -> class, of everything that is annotated so.

    A name that is annotated otherwise anywhere is left out: it says nothing.
    """
    fields: Dict[str, set] = {}
    returns: Dict[str, set] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                for name, found in _fields(node).items():
                    fields.setdefault(name, set()).add(found)
            elif isinstance(node, ast.FunctionDef) and not _is_property(node):
                returns.setdefault(node.name, set()).add(_api(node.returns))
    return _certain(fields), _certain(returns)


def _certain(table: Dict[str, set]) -> Dict[str, str]:
    return {k: next(iter(v)) for k, v in table.items() if len(v) == 1 and None not in v}


def _fields(node: ast.ClassDef) -> Dict[str, Optional[str]]:
    """What the class annotates, and its properties: name -> class of TensorRT, or None."""
    found: Dict[str, Optional[str]] = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.AnnAssign) and (
            isinstance(inner.target, ast.Attribute) or inner in node.body
        ):
            name = getattr(inner.target, "attr", getattr(inner.target, "id", ""))
            found[name] = _api(inner.annotation)
        elif isinstance(inner, ast.FunctionDef) and _is_property(inner):
            found[inner.name] = _api(inner.returns)
    return found


def _is_property(node: ast.FunctionDef) -> bool:
    return "property" in [getattr(each, "id", "") for each in node.decorator_list]


def _api(annotation: Any) -> Optional[str]:
    """The class that an annotation names, through Optional; "" for the module, None for others."""
    if isinstance(annotation, ast.Subscript) and getattr(annotation.value, "id", "") == "Optional":
        inner = annotation.slice
        return _api(getattr(inner, "value", inner) if type(inner).__name__ == "Index" else inner)
    name = getattr(annotation, "id", None)
    return "TensorRT" if name == "TensorRT" else name if name in API else None


def _typed(name: str) -> Typed:
    return Typed("class", MODULE) if name == "TensorRT" else Typed("object", name)


def _versions(tree: ast.Module) -> Optional[Tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "VERSIONS":
            return ast.literal_eval(node.value)
    return None


def _marks(source: str) -> Dict[int, List[Tuple[str, str]]]:
    found: Dict[int, List[Tuple[str, str]]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and _MARK.search(token.string):
            found[token.start[0]] = _MARK.findall(token.string)
    return found


class _Reader(ast.NodeVisitor):
    def __init__(self, fields: Dict[str, str], returns: Dict[str, str], tree: ast.Module) -> None:
        self.uses: List[Use] = []
        self.faults: List[str] = []
        self._fields, self._returns = fields, returns
        self._scopes: List[Dict[str, Optional[Typed]]] = [{}]
        self._classes: List[Dict[str, Optional[str]]] = [{}]
        self._tables = _tables(tree)

    # What has a type

    def typeof(self, node: Any) -> Optional[Typed]:
        if isinstance(node, ast.Name):
            return next((s[node.id] for s in reversed(self._scopes) if node.id in s), None)
        if isinstance(node, ast.Attribute):
            owner = self.typeof(node.value)
            if owner is not None:
                return self._member(owner, node.attr)
            own = self._classes[-1] if getattr(node.value, "id", "") == "self" else {}
            found = own.get(node.attr, self._fields.get(node.attr))
            return _typed(found) if found else None
        if isinstance(node, ast.Call):
            return self._called(node)
        return None

    def _member(self, owner: Typed, name: str) -> Typed:
        if owner == Typed("class", MODULE):
            return Typed("class", name)
        if owner.what == "class" and name == "Severity":
            return Typed("class", f"{owner.name}.Severity")
        return Typed("given", f"{owner.name}.{name}")

    def _called(self, node: ast.Call) -> Optional[Typed]:
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        method = getattr(node.func, "value", None)  # a function of ours is no field of its name
        function = (
            None if method is not None and not self.typeof(method) else self.typeof(node.func)
        )
        if function is None:
            return _typed(self._returns[name]) if name in self._returns else None
        if function.what == "class":
            return Typed("object", function.name)
        return Typed("given", function.name)

    # What is used

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self.typeof(node.value)
        if owner is not None:
            self._use(node, owner, node.attr, "use")
        self.generic_visit(node)

    def _use(self, node: Any, owner: Typed, name: str, kind: str) -> None:
        line = node.end_lineno
        if name.startswith("__") and name != "__version__":
            return
        if owner.what == "given":
            if name not in _VALUE:
                self.faults.append(f"line {line}: .{name} of {owner.name}, which has no annotation")
            return
        self.uses.append(Use(line, owner.name, name, kind))

    def visit_Call(self, node: ast.Call) -> None:
        if getattr(node.func, "id", "") in ("getattr", "hasattr") and len(node.args) > 1:
            self._asked(node)
        self.generic_visit(node)

    def _asked(self, node: ast.Call) -> None:
        owner, asked = self.typeof(node.args[0]), node.args[1]
        if owner is None:
            return
        kind = "test" if node.func.id == "hasattr" or len(node.args) > 2 else "use"
        if isinstance(asked, ast.Constant):
            self._use(node, owner, asked.value, kind)
        elif self._tables:
            for name in self._tables:
                self._use(node, owner, name, kind)
        else:
            self.faults.append(f"line {node.lineno}: a name that is computed, and no table FLAGS")

    # What gets a name

    def _function(self, node: Any) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        scope = {a.arg: _typed(_api(a.annotation)) for a in arguments if _api(a.annotation)}
        scope.update({a.arg: None for a in arguments if a.arg not in scope})
        self._scopes.append(scope)
        self.generic_visit(node)
        self._scopes.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for parent in node.bases:
            owner = self.typeof(parent)
            for method in node.body if owner is not None else ():
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    self.uses.append(Use(parent.end_lineno, owner.name, method.name, "use"))
        self._classes.append(_fields(node))
        self.generic_visit(node)
        self._classes.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name):
            found = _api(node.annotation)
            self._scopes[-1][node.target.id] = _typed(found) if found else None
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value)
        self.generic_visit(node)

    def _bind(self, target: Any, value: Any) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for each, given in zip(target.elts, value.elts):
                self._bind(each, given)
            return
        found = self.typeof(value)
        given = isinstance(value, ast.Call) and found is not None and found.what == "given"
        if given and not isinstance(target, ast.Subscript) and not self.typeof(target):
            self.faults.append(f"line {value.lineno}: {found.name} gets a name, no annotation")
        if isinstance(target, ast.Name):
            before = self.typeof(target)
            self._scopes[-1][target.id] = before if before and before.what == "object" else found

    def visit_For(self, node: ast.For) -> None:
        self._bind(node.target, node.iter)
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if item.optional_vars is not None:
                self._bind(item.optional_vars, item.context_expr)
        self.generic_visit(node)


def _tables(tree: ast.Module) -> Tuple[str, ...]:
    """The strings in the values of the module's FLAGS."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLAGS":
            table = ast.literal_eval(node.value)
            return tuple(sorted({name for found in table.values() for name in found}))
    return ()
