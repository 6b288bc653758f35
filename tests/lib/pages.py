"""Man pages are sound to mandoc, and bash, zsh and fish complete command lines by the scripts that the program prints."""

import os
import pty
import select
import shlex
import signal
import time

from harness import face, main, proof

CAIRN = face("img")[:1]

# What is typed, and a word that must be among what is proposed for its end.
LINES = [
    ("cairn im", "img"),
    ("cairn img con", "convert"),
    ("cairn img convert --obj", "--object"),
    ("cairn img convert -O vmd", "vmdk"),
    ("cairn nbd --soc", "--socket"),
    ("cairn gra", "graph"),
]


def script(place, shell, name):
    """The completions for a shell, in a file."""
    return place.write(name, place.ok([*CAIRN, "completions", shell]).out.encode())


@proof("every command has a man page that mandoc finds no fault with", needs=["mandoc"])
def _(place):
    folder = place.path("man")
    place.ok([*CAIRN, "man", folder])
    pages = sorted(os.listdir(folder))
    assert {"cairn.1", "cairn-img-convert.1", "cairn-daemon.1"} <= set(pages), pages
    # That a page has no date is no fault: the same program makes the same pages.
    lint = place.ok(["mandoc", "-T", "lint", "-W", "error", *(os.path.join(folder, page) for page in pages)])
    assert not lint.out, lint.out


@proof("bash proposes commands, flags and values", needs=["bash"])
def _(place):
    path = script(place, "bash", "cairn.bash")
    for line, word in LINES:
        words = shlex.split(line)
        ask = f"""source {path}; compopt() {{ :; }}
            COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; _cairn; printf '%s\\n' "${{COMPREPLY[@]}}" """
        proposed = place.ok(["bash", "-c", ask]).out.split("\n")
        assert word in proposed, (line, proposed)


@proof("fish proposes commands, flags and values", needs=["fish"])
def _(place):
    path = script(place, "fish", "cairn.fish")
    for line, word in LINES:
        ask = ["fish", "-c", f"source {path}; complete -C {shlex.quote(line)}"]
        env = {**os.environ, "HOME": place.dir, "XDG_CONFIG_HOME": place.dir, "XDG_DATA_HOME": place.dir}
        proposed = [proposal.split("\t")[0] for proposal in place.ok(ask, env=env).out.split("\n")]
        assert any(proposal in (word, word + "=") for proposal in proposed), (line, proposed)


@proof("zsh completes commands, flags and values at its prompt", needs=["zsh"])
def _(place):
    script(place, "zsh", "_cairn")
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="dumb", HOME=place.dir, ZDOTDIR=place.dir)
        os.execvp("zsh", ["zsh", "-f", "-i"])
    place.closers.append(lambda: (os.close(terminal), os.kill(process, signal.SIGKILL), os.waitpid(process, 0)))

    def until(what, then=""):
        """Reads what the shell shows as far as these, one behind the other."""
        seen, end = "", time.monotonic() + 30
        while what not in seen or then not in seen.split(what, 1)[1]:
            assert time.monotonic() < end, (what, then, seen)
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536).decode(errors="replace")
        return seen

    def type_in(text):
        os.write(terminal, text.encode())

    type_in(f"PS1='rea''dy '; fpath=({place.dir} $fpath); autoload -U compinit; compinit -u -D; unsetopt beep; echo se''t\n")
    until("set", "ready")
    # What follows a completed word is shown behind it.
    for line, word in LINES:
        type_in(f"\x15{line}\t#")
        until(word, "#")


main("Man pages and completions")
