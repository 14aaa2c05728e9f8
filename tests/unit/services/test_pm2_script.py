"""Ecosystem files read without running them: the values that are certain, and the line of what is not."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.kernel.errors import ConfigError
from standfast.services.stacks.nodes import Plain
from standfast.services.stacks.script import read_script, read_value

FILE = Path("/srv/app/ecosystem.config.js")
ENVIRONMENT = {"SET": "value", "EMPTY": "", "NUMBER": "5", "HOME": "/users/me"}


def exported(text: str) -> Plain:
    return read_script(text, FILE, ENVIRONMENT).value.plain()


def value(expression: str) -> Plain:
    found = exported(
        f"const path = require('path'); const os = require('os');\nmodule.exports = {{v: {expression}}};"
    )
    assert isinstance(found, dict)
    return found.get("v", "ABSENT")


def doubled(first: str, step: str, times: int = 60) -> str:
    names = "".join(f"const a{n} = {step.format(f'a{n - 1}')};" for n in range(1, times))
    return f"const a0 = {first};{names}module.exports = a{times - 1}"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("module.exports = {\n  apps: list.map(x => x)\n}", 2, "=> is not read here"),
        ("module.exports = {\n  apps: list}", 2, "'list' is not declared above"),
        (
            "const fs = require('fs');\nmodule.exports = {a: fs.readFileSync('x')}",
            2,
            "require:fs.readFileSync",
        ),
        ("module.exports = {\n a: () => 1 }", 2, "no value"),
        ("function f() {}\nmodule.exports = {}", 1, "'function'"),
        ("if (x) {}\n", 1, "'if'"),
        ("require('dotenv').config();\nmodule.exports = {}", 1, "'require'"),
        ("let a;\nmodule.exports = {a}", 1, "without value"),
        ("module.exports = {a: new Date()}", 1, "new is not read here"),
        ("module.exports = {\n\n a: 1 +\n [1]}", 3, "a number + a list"),
        ("module.exports = {a: '5' == 5}", 1, "text == a number"),
        ("module.exports = {a: 1e400}", 1, ""),
        ("module.exports = {a: `${{}}`}", 1, "a mapping as text"),
        ("module.exports = {f() {}}", 1, "the function 'f'"),
        ("const a = 1;", 1, "exports nothing"),
        ("module.exports = {a: process.env}", 1, "process.env is no value"),
        ("module.exports = {a: 'x", 1, "has no end"),
        ("module.exports = {a: `x", 1, "has no end"),
        ("module.exports = {a: `${1`}", 1, "has no end"),
        ("module.exports = {a: '\\u{zz}'}", 1, "no code"),
        ("module.exports = {a: 1", 1, ", is missing before 'the end'"),
        ("module.exports = @", 1, "'@' is not read here"),
        ("", 1, "exports nothing"),
        ("module.exports = " + "[" * 100, 1, "nested deeper"),
        ("module.exports = " + "1+" * 500 + "1", 1, "in a row"),
        ("module.exports = " + "!" * 500 + "1", 1, "in a row"),
        ("module.exports = a" + ".b" * 500, 1, "in a row"),
        ("module.exports = " + "`${" * 100 + "}`" * 100, 1, "nested too deeply"),
        ("module.exports = [" + "1," * 200_000 + "]", 1, "more than 100000 words"),
        (doubled("[1]", "[...{0}, ...{0}]"), 1, "means more than"),
        (doubled("[1]", "[{0}, {0}]"), 1, "means more than"),
        (doubled("{}", "{{l: {0}, r: {0}}}"), 1, "means more than"),
        (doubled("[1]", "{0}.concat({0})"), 1, "means more than"),
        (doubled("'xxxxxxxx'", "{0} + {0}"), 1, "a text of this length"),
        (doubled("[1]", "[{0}]", times=3_000), 1, "levels"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_is_not_certain_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        exported(text)
    assert caught.value.what.startswith(f"{FILE}:{line}: ")
    assert words in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("'a\\n\\x41\\u0042\\u{43}\\'\"'", "a\nABC'\""),
        ("`a${1 + 1}b${`c${'d'}`}`", "a2bcd"),
        ("0x1F + 1_000 + .5", 1031.5),
        ("-3", -3),
        ("2 / 4", 0.5),
        ("7 % 4", 3),
        ("[1, 'a', null, true, ...[2, 3],]", [1, "a", None, True, 2, 3]),
        ("{a: 1, 'b-c': 2, [`d${1}`]: 3, ...{a: 4}, 5: 6}", {"a": 4, "b-c": 2, "d1": 3, "5": 6}),
        ("undefined", "ABSENT"),
        ("{x: undefined, y: null}", {"y": None}),
        ("process.env.SET", "value"),
        ("process.env['SET'] + '/x'", "value/x"),
        ("process.env.NOPE || 'default'", "default"),
        ("process.env.EMPTY || 'default'", "default"),
        ("process.env.EMPTY ?? 'default'", ""),
        ("process.env.NOPE ?? 'default'", "default"),
        ("process.env.SET && 'yes'", "yes"),
        ("process.env.NOPE", "ABSENT"),
        ("'x' + process.env.NOPE", "xundefined"),
        ("process.env.SET === 'value' ? 1 : 2", 1),
        ("process.env.NOPE === undefined", True),
        ("process.env.NOPE == null", True),
        ("null === undefined", False),
        ("!process.env.SET", False),
        ("parseInt(process.env.NUMBER, 10) * 2", 10),
        ("Number('2.5')", 2.5),
        ("String(5)", "5"),
        ("1 < 2 && 2 >= 2", True),
        ("__dirname", "/srv/app"),
        ("__filename", str(FILE)),
        ("process.cwd()", "/srv/app"),
        ("path.join(__dirname, '..', 'logs', 'a.log')", "/srv/logs/a.log"),
        ("path.join('a/', '/b/')", "a/b/"),
        ("path.resolve(__dirname, 'x/../y')", "/srv/app/y"),
        ("path.dirname('/a/b/')", "/a"),
        ("path.basename('/a/b/')", "b"),
        ("os.homedir()", "/users/me"),
        ("['a', null, 'b'].join('-')", "a--b"),
        ("[1].concat([2], 3)", [1, 2, 3]),
        ("Object.assign({}, {a: 1}, {a: 2})", {"a": 2}),
        ("({a: [{b: 1}]}).a[0].b", 1),
    ],
)
def test_values_are_what_node_makes_of_them(expression: str, result: Plain) -> None:
    assert value(expression) == result


def test_declarations_comments_and_forms_of_export() -> None:
    text = """#!/usr/bin/env node
'use strict'
// a comment
const base = { a: 1 }, /* another */ list = ['x']
let { SET, NOPE = 'd', NUMBER: n } = process.env
var shared = { ...base, list }
exports.shared = shared
module.exports.names = { SET, NOPE, n }
"""
    assert exported(text) == {
        "shared": {"a": 1, "list": ["x"]}, "names": {"SET": "value", "NOPE": "d", "n": "5"},
    }  # fmt: skip
    assert exported("export default {a: 1}\n") == {"a": 1}
    assert exported("exports.a = 1; module.exports = {b: 2}") == {"b": 2}


def test_values_know_their_lines() -> None:
    found = read_script(
        "module.exports = {\n  apps: [\n    {\n      name: 'a',\n    },\n  ],\n};", FILE, {}
    ).value
    app = found.at("apps", 0)
    assert app is not None
    assert app.line == 3
    name = app.get("name")
    assert name is not None
    assert name.line == 4


def test_the_whole_environment_can_be_spread() -> None:
    assert exported("module.exports = {env: {...process.env, A: 1}}") == {"env": {**ENVIRONMENT, "A": 1}}


def test_json_is_read_with_comments_and_trailing_commas() -> None:
    found = read_value('{// c\n"apps": [{"name": "a", "n": 1.5,},],}', FILE)
    assert found.plain() == {"apps": [{"name": "a", "n": 1.5}]}
    for text in ("", "{", "{} x", "{a: b}", "{,}"):
        with pytest.raises(ConfigError):
            read_value(text, FILE)


@given(st.text(alphabet="abx01'\"`${}[]().,:;=+-!?&|/*\\ \n", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for source in (text, f"module.exports = {text}"):
        with contextlib.suppress(ConfigError):
            exported(source)


_LEAVES = (
    "'x'", "1", "0", "2.5", "true", "false", "null", "undefined", "process.env.SET", "process.env.EMPTY",
    "process.env.NOPE", "''", "`t`", "one", "two.k", "two['z']", "list[1]", "list[9]", "-3", "__dirname",
    "'5'", "process.env.NUMBER",
)  # fmt: skip
_SHAPES = (
    "{0} + {1}", "({0} || {1})", "({0} && {1})", "({0} ?? {1})", "({0} ? {1} : {0})", "`a${{{0}}}b${{{1}}}`",
    "[{0}, {1},]", "({{a: {0}, 'b-c': {1}, one, ...two}})", "{0} === {1}", "({0} !== {1})", "!{0}",
    "(-{0})", "{0} * {1}", "({0} < {1})", "path.join({0}, {1})", "path.resolve(__dirname, {0})",
    "String({0})", "parseInt({0}, 10)", "[{0}, ...list].join({1})", "[...list, {1}]", "path.dirname({0})",
    "Object.assign({{}}, two, {{k: {0}}})", "path.basename({0})", "[{0}].concat({1}, list)", "{0} == {1}",
)  # fmt: skip
_RUN = (
    "const fs = require('fs'), out = [];"
    "const given = JSON.parse(fs.readFileSync(0));"
    "for (const text of given.texts) { try { const module = {exports: {}};"
    "new Function('require', 'module', 'process', '__dirname', text)("
    "require, module, {env: {...given.env}}, '/srv/app');"
    "out.push({found: JSON.parse(JSON.stringify(module.exports))}); } catch (e) { out.push({}); } }"
    "process.stdout.write(JSON.stringify(out));"
)


def expression(chance: random.Random, depth: int) -> str:
    if not depth or chance.random() < 0.3:
        return chance.choice(_LEAVES)
    return chance.choice(_SHAPES).format(expression(chance, depth - 1), expression(chance, depth - 1))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is absent")
@pytest.mark.parametrize("seed", range(3))
def test_no_value_differs_from_what_node_makes_of_it(seed: int) -> None:
    chance = random.Random(seed)
    head = "const path = require('path'), one = 7, two = {k: 'kk', z: [1]}, list = [1, 'two', null];\n"
    texts = [f"{head}module.exports = {{v: {expression(chance, 3)}}};" for _ in range(400)]
    done = subprocess.run(
        ["node", "-e", _RUN], input=json.dumps({"env": ENVIRONMENT, "texts": texts}), text=True,
        capture_output=True, check=True, cwd="/",
    )  # fmt: skip
    compared = 0
    for text, said in zip(texts, json.loads(done.stdout), strict=True):
        with contextlib.suppress(ConfigError):
            ours = exported(text)
            if "found" in said:
                compared += 1
                assert ours == said["found"], text
    assert compared > 100
