//! The shells that ask. Bash and zsh get scripts of ours: a word that ends in `=` goes on, and bash
//! takes `=` and `:` for the ends of words, where neither a parameter nor a URL ends.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::engine;
use clap_complete::env::{Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};

/// All of them.
pub(in crate::cli) const SHELLS: Shells<'static> =
    Shells(&[&OurBash, &Elvish, &Fish, &Powershell, &OurZsh]);
/// The variable in which bash hands over the line, up to where the user is.
pub(super) const LINE: &str = "FIREDRILL_COMPLETE_LINE";

struct OurBash;

impl EnvCompleter for OurBash {
    fn name(&self) -> &'static str {
        "bash"
    }
    fn is(&self, name: &str) -> bool {
        name == "bash"
    }
    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        write!(
            buf,
            r#"_{name}() {{
    local IFS=$'\n'
    COMPREPLY=($({LINE}="${{COMP_LINE:0:COMP_POINT}}" {var}=bash {completer} -- {bin} 2>/dev/null))
    if [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *[=.] ]]; then
        compopt -o nospace
    fi
}}
complete -o bashdefault -o default -o nosort -F _{name} {bin} 2>/dev/null ||
    complete -o bashdefault -o default -F _{name} {bin}
"#
        )
    }
    fn write_complete(
        &self,
        command: &mut Command,
        _: Vec<OsString>,
        dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        let words = words(&std::env::var(LINE).unwrap_or_default());
        let current = words.last().cloned().unwrap_or_default();
        // Bash puts in what comes after these.
        let kept = current.rfind(['=', ':']).map_or(0, |at| at + 1);
        let index = words.len().saturating_sub(1);
        let words = words.into_iter().map(OsString::from).collect();
        for candidate in engine::complete(command, words, index, dir)? {
            let value = candidate.get_value().to_string_lossy();
            writeln!(buf, "{}", value.get(kept..).unwrap_or(&value))?;
        }
        Ok(())
    }
}

struct OurZsh;

impl EnvCompleter for OurZsh {
    fn name(&self) -> &'static str {
        "zsh"
    }
    fn is(&self, name: &str) -> bool {
        name == "zsh"
    }
    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        write!(
            buf,
            r#"#compdef {bin}
_{name}() {{
    local line
    local -a open whole
    for line in "${{(@f)$(_CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) {var}=zsh {completer} -- "${{words[@]}}" 2>/dev/null)}}"; do
        case "${{line%%:*}}" in
            '') ;;
            *[=./]) open+=("$line") ;;
            *) whole+=("$line") ;;
        esac
    done
    (( $#open )) && _describe -V 'values' open -S ''
    (( $#whole )) && _describe -V 'values' whole
}}
compdef _{name} {bin}
"#
        )
    }
    fn write_complete(
        &self,
        command: &mut Command,
        args: Vec<OsString>,
        dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        Zsh.write_complete(command, args, dir, buf)
    }
}

/// The words of a line as a shell tells them apart, the one that is under way last: from the
/// command on, without assignments before it.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        let Some(word) = words.last_mut() else { break };
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.push(c),
            (_, '\\') => word.extend(characters.next()),
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => quote = Some(c),
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(String::new());
                }
            }
            (None, c) => word.push(c),
        }
    }
    let first = words.iter().position(|word| !word.contains('='));
    words.drain(..first.unwrap_or(0));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        assert_eq!(words("firedrill "), ["firedrill", ""]);
        assert_eq!(
            words("A=b firedrill  inject --path '/a b' \"c\\\" d\" latency=1s x\\ y"),
            [
                "firedrill",
                "inject",
                "--path",
                "/a b",
                "c\" d",
                "latency=1s",
                "x y"
            ]
        );
        assert_eq!(words("firedrill 'open"), ["firedrill", "open"]);
        assert_eq!(words(""), [""]);
    }
}
