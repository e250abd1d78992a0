"""Writes the WIT world of a plugin, for the tool that makes a component of it:

    python world.py MODULES DIR

MODULES is a folder with plugin.py and the SDK. The world has the hooks whose classes the module has, and the interfaces
that it imports, by itself or through the SDK's modules. To know them, the module is loaded here, with imports that do
nothing. What looks like a slip of the author is an error.
"""

import importlib
import importlib.abc
import importlib.machinery
import pathlib
import shutil
import sys
import traceback
import types

VERSION = "1.0.0"
#: Classes of a plugin's module, with their interfaces.
HOOKS = {"Configure": "configure", "Validate": "validate", "Filter": "filter", "OnJoin": "on-join"}
#: Interfaces that a plugin may import.
IMPORTS = ("log", "clock", "random", "kv", "http")


class StandIn(types.ModuleType):
    """A module of an interface, in which every name is an exception: it can be called, raised and caught."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what the tool will make of the world, and notes what is used."""

    def __init__(self):
        self.used = ["log"]

    def find_spec(self, name, path, target=None):
        top, *rest = name.split(".")
        if top not in ("wit_world", "componentize_py_types"):
            return None
        if rest[:1] == ["imports"] and len(rest) == 2 and rest[1] not in (*IMPORTS, "types"):
            raise ImportError(f"there is no interface {rest[1]} to import: {', '.join(IMPORTS)}")
        is_package = name in ("wit_world", "wit_world.imports", "wit_world.exports")
        return importlib.machinery.ModuleSpec(name, self, is_package=is_package)

    def create_module(self, spec):
        return None if spec.submodule_search_locations is not None else StandIn(spec.name)

    def exec_module(self, module):
        parent, _, name = module.__name__.rpartition(".")
        if parent == "wit_world.imports" and name in IMPORTS and name not in self.used:
            self.used.append(name)


def slips(module, made, is_near):
    """What is wrong with the names in the module."""
    for name, each in made.items():
        if getattr(module, name, None) is not each:
            other = next((other for other, value in vars(module).items() if value is each), "no name")
            yield f"the class {name} is called {other}, and no gateway would call it: name it {name}"
    for name, value in vars(module).items():
        meant = next((hook for hook in HOOKS if name != hook and is_near(name, hook)), None)
        if isinstance(value, type) and name not in HOOKS and meant and not hasattr(module, meant):
            yield f"the class {name} is called by no gateway; did you mean {meant}?"
    if not any(hasattr(module, name) for name in HOOKS if name != "Configure"):
        yield "it has none of the classes Validate, Filter and OnJoin: no gateway would call it"


def main(modules, out):
    found = StandIns()
    sys.meta_path.insert(0, found)
    sys.path.insert(0, modules)
    try:
        module = importlib.import_module("plugin")
        arcyou = importlib.import_module("arcyou")
    except Exception as error:
        traceback.print_exc()
        return [str(error)]
    problems = list(slips(module, arcyou.made_classes, arcyou.is_near))
    if problems:
        return problems
    exports = [interface for name, interface in HOOKS.items() if hasattr(module, name)]
    lines = ["package arcyou:plugin;", "world plugin {"]
    lines += [f"  import arcyou:gateway/{name}@{VERSION};" for name in found.used]
    lines += [f"  export arcyou:gateway/{name}@{VERSION};" for name in exports]
    out = pathlib.Path(out)
    shutil.copytree(pathlib.Path(__file__).parent.parent / "wit" / VERSION, out / "deps" / "gateway")
    (out / "world.wit").write_text("\n".join([*lines, "}", ""]))
    return []


if __name__ == "__main__":
    wrong = main(*sys.argv[1:])
    for problem in wrong:
        print(f"plugin.py: {problem}", file=sys.stderr)
    sys.exit(1 if wrong else 0)
