//! Completions for bash, zsh and fish, made from the grammar that clap knows.
//!
//! `args.rs` comes here for `--completions`. The generators that come with clap know no command
//! that is written as a flag, such as `--serve`. Behind an abbreviation longer than a letter nothing is
//! completed.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, ValueHint};

/// The shells that there are completions for.
pub(super) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The completions for one of [`SHELLS`]. `whole` is built, so that each command has the options of
/// all commands too; each of `links` is the program under a name that stands for a command.
pub(super) fn script(shell: &str, whole: &Command, links: &[&str]) -> String {
    let commands: Vec<&Command> = whole.get_subcommands().collect();
    match shell {
        "bash" => bash(whole, &commands, &links.join(" ")),
        "zsh" => zsh(whole, &commands, &links.join(" ")),
        _ => fish(whole, &commands, links),
    }
}

/// What follows an option.
enum Value {
    None,
    /// One of these.
    Words(Vec<String>),
    /// A file, or a directory alone.
    File,
    Directory,
    /// Text that only the user knows.
    Text,
}

fn value(option: &Arg) -> Value {
    if !option.get_action().takes_values() {
        return Value::None;
    }
    let words: Vec<String> = option
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name().to_owned())
        // The form of a value is no value.
        .filter(|word| !word.contains(':'))
        .collect();
    match option.get_value_hint() {
        _ if !words.is_empty() => Value::Words(words),
        ValueHint::AnyPath | ValueHint::FilePath => Value::File,
        ValueHint::DirPath => Value::Directory,
        _ => Value::Text,
    }
}

/// Whether an option may stand alone although it takes a value.
fn is_optional(option: &Arg) -> bool {
    option.get_num_args().is_some_and(|range| range.min_values() == 0)
}

/// The options of a command, in the order of its help.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|one| !one.is_positional() && !one.is_hide_set())
}

/// What a command takes besides options: for `help` another command.
fn operand(command: &Command) -> Option<Value> {
    let commands: Vec<String> =
        command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    if !commands.is_empty() {
        return Some(Value::Words(commands));
    }
    command.get_arguments().find(|one| one.is_positional()).map(value)
}

fn spellings(option: &Arg) -> Vec<String> {
    let long = option.get_long().map(|long| format!("--{long}"));
    long.into_iter().chain(option.get_short().map(|short| format!("-{short}"))).collect()
}

/// `serve`, `--serve`, `-s`.
fn spellings_of_command(command: &Command) -> Vec<String> {
    let word = Some(command.get_name().to_owned());
    let long = command.get_long_flag().map(|long| format!("--{long}"));
    let short = command.get_short_flag().map(|short| format!("-{short}"));
    word.into_iter().chain(long).chain(short).collect()
}

/// The first clause of a help text.
fn summary(help: Option<&clap::builder::StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    let ends = ["; ", ". ", " [default", " ("].map(|end| help.find(end));
    help[..ends.into_iter().flatten().min().unwrap_or(help.len())].to_owned()
}

fn bash(whole: &Command, commands: &[&Command], links: &str) -> String {
    let mut values = String::new();
    for (name, command) in [("*", whole)].into_iter().chain(named(commands)) {
        for option in options(command).filter(|option| name == "*" || !option.is_global_set()) {
            let patterns: Vec<String> = spellings(option)
                .iter()
                .map(|one| format!("{}' {one}'", if name == "*" { "*" } else { name }))
                .collect();
            let action = match value(option) {
                Value::None => continue,
                Value::Words(words) => format!("words='{}'", words.join(" ")),
                Value::File => "kind=file".to_owned(),
                Value::Directory => "kind=directory".to_owned(),
                Value::Text if is_optional(option) => continue,
                Value::Text => "return 0".to_owned(),
            };
            let _ = writeln!(values, "        {}) {action} ;;", patterns.join(" | "));
        }
    }
    let mut picks = String::new();
    let mut offers = String::new();
    for (name, command) in named(commands) {
        let _ = writeln!(
            picks,
            "            {}) command={name} ;;",
            spellings_of_command(command).join(" | ")
        );
        let long: Vec<String> =
            options(command).filter_map(|one| spellings(one).first().cloned()).collect();
        let long = long.join(" ");
        let offer = match operand(command) {
            Some(Value::Words(words)) => format!(
                "if [[ $cur == -* ]]; then words='{long}'; else words='{}'; fi",
                words.join(" ")
            ),
            Some(Value::File) => {
                format!("if [[ $cur == -* ]]; then words='{long}'; else kind=file; fi")
            }
            _ => format!("words='{long}'"),
        };
        let _ = writeln!(offers, "            {name}) {offer} ;;");
    }
    let words: Vec<&str> = commands.iter().map(|command| command.get_name()).collect();
    let flags: Vec<String> = commands
        .iter()
        .filter_map(|command| command.get_long_flag().map(|long| format!("--{long}")))
        .chain(options(whole).filter_map(|one| spellings(one).first().cloned()))
        .collect();
    let (words, flags) = (words.join(" "), flags.join(" "));
    format!(
        r#"# Completions of web-ipc for bash 3.2 or later. Made by: web-ipc --completions bash
_web_ipc() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev='' command='' words='' kind='' i IFS=$' \t\n'
    ((COMP_CWORD > 0)) && prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    # Of `--name=value` bash makes three words.
    if [[ $cur == '=' ]]; then
        cur=''
    elif [[ $prev == '=' ]] && ((COMP_CWORD > 1)); then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    case ${{COMP_WORDS[0]##*/}} in
        web-ipc-*) command=${{COMP_WORDS[0]##*/}} command=${{command#web-ipc-}} ;;
    esac
    for ((i = 1; i < COMP_CWORD && ${{#command}} == 0; i++)); do
        case ${{COMP_WORDS[i]}} in
            --home)
                ((i++))
                [[ ${{COMP_WORDS[i]}} == '=' ]] && ((i++))
                ;;
            --quiet) ;;
{picks}            *) return 0 ;;
        esac
    done
    case "$command $prev" in
{values}    esac
    if [[ -z $words && -z $kind ]]; then
        case $command in
            '') if [[ $cur == -* ]]; then words='{flags}'; else words='{words}'; fi ;;
{offers}        esac
    fi
    if [[ -n $kind ]]; then
        compopt -o filenames 2>/dev/null
        IFS=$'\n'
        case $kind in
            file) COMPREPLY=($(compgen -f -- "$cur")) ;;
            directory) COMPREPLY=($(compgen -d -- "$cur")) ;;
        esac
    else
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    fi
}}
complete -F _web_ipc web-ipc {links}
"#
    )
}

fn named<'a>(commands: &'a [&'a Command]) -> impl Iterator<Item = (&'a str, &'a Command)> {
    commands.iter().map(|command| (command.get_name(), *command))
}

fn zsh(whole: &Command, commands: &[&Command], links: &str) -> String {
    /// Text of a specification, within single quotes.
    fn quoted(text: &str) -> String {
        let mut quoted = String::new();
        for letter in text.chars() {
            match letter {
                '\'' => quoted.push_str("'\\''"),
                '[' | ']' | ':' | '\\' => quoted.extend(['\\', letter]),
                _ => quoted.push(letter),
            }
        }
        quoted
    }
    let action = |value: Value, name: &str| match value {
        Value::None => String::new(),
        Value::Words(words) => format!(":{name}:({})", words.join(" ")),
        Value::File => format!(":{name}:_files"),
        Value::Directory => format!(":{name}:_files -/"),
        Value::Text => format!(":{name}: "),
    };
    let specification = |option: &Arg| {
        let name = option.get_value_names().and_then(|names| names.first());
        let action = action(value(option), name.map_or("VALUE", |name| name.as_str()));
        let action = if is_optional(option) { format!(":{action}") } else { action };
        let spellings = spellings(option);
        let help = quoted(&summary(option.get_help()));
        let mut lines = String::new();
        for one in &spellings {
            let many = matches!(option.get_action(), ArgAction::Append);
            let excluded = if many { "*".to_owned() } else { format!("({})", spellings.join(" ")) };
            let equals = if one.starts_with("--") && !action.is_empty() { "=" } else { "" };
            let _ = writeln!(lines, "                '{excluded}{one}{equals}[{help}]{action}' \\");
        }
        lines
    };
    let mut picks = String::new();
    let mut bodies = String::new();
    let mut words = String::new();
    let mut flags = String::new();
    for (name, command) in named(commands) {
        let spellings = spellings_of_command(command);
        let _ = writeln!(picks, "                {}) command={name} ;;", spellings.join("|"));
        let mut body: String = options(command).map(&specification).collect();
        if let Some(operand) = operand(command) {
            let action = action(operand, "operand");
            let _ = writeln!(body, "                '*{action}' \\");
        }
        let _ = writeln!(
            bodies,
            "        {name})\n            _arguments -s \\\n{}\n            ;;",
            body.trim_end().trim_end_matches('\\').trim_end()
        );
        let about = quoted(&summary(command.get_about()));
        let _ = writeln!(words, "                '{name}:{about}'");
        if let Some(long) = command.get_long_flag() {
            let _ = writeln!(flags, "                '--{long}:{about}'");
        }
    }
    for option in options(whole) {
        let about = quoted(&summary(option.get_help()));
        if let Some(long) = option.get_long() {
            let _ = writeln!(flags, "                '--{long}:{about}'");
        }
    }
    format!(
        r#"#compdef web-ipc {links}
# Completions of web-ipc for zsh. Made by: web-ipc --completions zsh

_web-ipc() {{
    local command=''
    local -i i=2
    local -a found
    case ${{words[1]:t}} in
        web-ipc-*) command=${{${{words[1]:t}}#web-ipc-}} ;;
    esac
    if [[ -z $command ]]; then
        while (( i < CURRENT )) && [[ -z $command ]]; do
            case $words[i] in
                --home) (( i++ )) ;;
                --home=*|--quiet) ;;
{picks}                *) return 1 ;;
            esac
            (( i++ ))
        done
        if [[ -z $command ]]; then
            if [[ $words[CURRENT-1] == --home ]] && (( CURRENT > 2 )); then
                _files -/
                return
            fi
            if [[ $PREFIX == -* ]]; then
                found=(
{flags}                )
            else
                found=(
{words}                )
            fi
            _describe command found
            return
        fi
        # The command and what stands before it become one word, behind which only options are.
        words=("web-ipc-$command" "${{(@)words[i,-1]}}")
        (( CURRENT -= i - 2 ))
    fi
    case $command in
{bodies}    esac
}}

_web-ipc "$@"
"#
    )
}

fn fish(whole: &Command, commands: &[&Command], links: &[&str]) -> String {
    fn quoted(text: &str) -> String {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
    }
    let line = |condition: &str, option: &Arg| {
        let mut line = format!("complete -c web-ipc -n {}", quoted(condition));
        if let Some(short) = option.get_short() {
            let _ = write!(line, " -s {short}");
        }
        if let Some(long) = option.get_long() {
            let _ = write!(line, " -l {long}");
        }
        match value(option) {
            Value::None => {}
            // What may stand alone is offered without a value.
            _ if is_optional(option) => {}
            Value::Words(words) => {
                let _ = write!(line, " -x -a {}", quoted(&words.join(" ")));
            }
            Value::File => line.push_str(" -r -F"),
            Value::Directory => line.push_str(" -x -a '(__fish_complete_directories)'"),
            Value::Text => line.push_str(" -x"),
        }
        line + &format!(" -d {}\n", quoted(&summary(option.get_help())))
    };
    let mut picks = String::new();
    let mut lines = String::new();
    for option in options(whole) {
        lines.push_str(&line("__web_ipc_is none", option));
    }
    for (name, command) in named(commands) {
        let spellings = spellings_of_command(command);
        let _ = writeln!(
            picks,
            "            case {}\n                echo {name}\n                return",
            spellings.join(" ")
        );
        let about = quoted(&summary(command.get_about()));
        let long = command.get_long_flag().map(|long| format!("--{long}"));
        for word in [Some(name.to_owned()), long].into_iter().flatten() {
            let _ = writeln!(
                lines,
                "complete -c web-ipc -n '__web_ipc_is none' -a '{word}' -d {about}"
            );
        }
        let condition = format!("__web_ipc_is {name}");
        for option in options(command) {
            lines.push_str(&line(&condition, option));
        }
        match operand(command) {
            Some(Value::Words(words)) => {
                let words = quoted(&words.join(" "));
                let _ = writeln!(lines, "complete -c web-ipc -n '{condition}' -a {words}");
            }
            Some(Value::File) => {
                let _ = writeln!(lines, "complete -c web-ipc -n '{condition}' -F");
            }
            _ => {}
        }
    }
    // Each is completed as the command that it stands for.
    let links: String = links
        .iter()
        .map(|link| {
            format!("complete -c {link} -w '{}'\n", link.replacen("web-ipc-", "web-ipc ", 1))
        })
        .collect();
    format!(
        r#"# Completions of web-ipc for fish. Made by: web-ipc --completions fish

# Prints the command that the line has, or `none`.
function __web_ipc_command
    set -l line (commandline -opc)
    set -l skips 0
    for word in $line[2..-1]
        if test $skips = 1
            set skips 0
            continue
        end
        switch $word
            case --home
                set skips 1
            case '--home=*' --quiet
{picks}            case '*'
                echo unknown
                return
        end
    end
    echo none
end

function __web_ipc_is
    test (__web_ipc_command) = $argv[1]
end

complete -c web-ipc -f
{lines}{links}"#
    )
}

#[cfg(test)]
mod tests {
    use super::super::commands::command;
    use super::*;

    fn of(shell: &str) -> String {
        let mut whole = command();
        whole.build();
        script(shell, &whole, &["web-ipc-serve", "web-ipc-send"])
    }

    #[test]
    fn every_command_and_every_option_is_in_the_completions_of_every_shell() {
        let mut whole = command();
        whole.build();
        for shell in SHELLS {
            let script = of(shell);
            let dashes = if shell == "fish" { "-l " } else { "--" };
            for command in whole.get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
                for long in options(command).filter_map(Arg::get_long) {
                    assert!(script.contains(&format!("{dashes}{long}")), "{shell}: --{long}");
                }
            }
            for link in ["web-ipc-serve", "web-ipc-send"] {
                assert!(script.contains(link), "{shell}: {link}");
            }
        }
    }

    #[test]
    fn a_form_of_a_value_is_not_offered_as_one() {
        for shell in SHELLS {
            let script = of(shell);
            assert!(script.contains("memory durable"), "{shell}");
            assert!(!script.contains("durable nats://"), "{shell}");
        }
    }

    #[test]
    fn a_summary_is_one_clause() {
        let told = |text: &str| summary(Some(&text.to_owned().into()));
        assert_eq!(told("Add a user"), "Add a user");
        assert_eq!(told("Days until [default: 365]"), "Days until");
        assert_eq!(told("Make it; what is there stays. So it is"), "Make it");
    }
}
