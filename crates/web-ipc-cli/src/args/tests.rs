//! All spellings of the Python tool, and wrong usage.

use ipc_server::Protocol;
use ipc_setup::KeyType;

use super::*;

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    super::parse(arguments, &Surroundings::without_files())
}

fn invocation(line: &str) -> Invocation {
    parse(line.split_whitespace().map(OsString::from))
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn refusal(line: &str) -> String {
    refusal_of(&line.split_whitespace().collect::<Vec<_>>())
}

fn refusal_of(words: &[&str]) -> String {
    match parse(words.iter().map(OsString::from)) {
        Ok(invocation) => panic!("{words:?}: {invocation:?}"),
        Err(wrong) => wrong.to_string(),
    }
}

fn help_of_line(line: &str) -> String {
    match invocation(line).action {
        Action::Help(help) => help,
        other => panic!("{line}: {other:?}"),
    }
}

fn users_of(line: &str) -> Users {
    match invocation(line).action {
        Action::Users(users) => users,
        other => panic!("{line}: {other:?}"),
    }
}

fn certs_of(line: &str) -> Certs {
    match invocation(line).action {
        Action::Certs(certs) => certs,
        other => panic!("{line}: {other:?}"),
    }
}

fn test_of(line: &str) -> Test {
    match invocation(line).action {
        Action::Test(test) => test,
        other => panic!("{line}: {other:?}"),
    }
}

fn credentials(users: &Users) -> (Option<&str>, Option<&str>) {
    (users.user.as_deref(), users.password.as_ref().map(|password| password.as_str()))
}

#[test]
fn the_command_is_definable() {
    command().debug_assert();
}

#[test]
fn init_in_every_spelling() {
    for line in [
        "web-ipc --init --run",
        "web-ipc -I -r",
        "web-ipc -Ir",
        "web-ipc --ini --ru",
        "web-ipc init -r",
        "web-ipc in --run",
    ] {
        assert!(matches!(invocation(line).action, Action::Init { force: false }), "{line}");
    }
    for line in [
        "web-ipc --init --run --force",
        "web-ipc -I -rF",
        "web-ipc -IrF",
        "web-ipc --init -F --run",
    ] {
        assert!(matches!(invocation(line).action, Action::Init { force: true }), "{line}");
    }
}

#[test]
fn a_user_is_added_in_every_spelling() {
    for line in [
        "web-ipc --users --add --user test1 --password pass321",
        "web-ipc -u -a -u test1 -p pass321",
        "web-ipc -u -au test1 -ppass321",
        "web-ipc -uau test1 -p pass321",
        "web-ipc --us --ad --us test1 --pass pass321",
        "web-ipc --user --add --user=test1 --password=pass321",
        "web-ipc users --add -u test1 -p pass321",
        "web-ipc-users --add -u test1 -p pass321",
        "/usr/local/bin/web-ipc-users -a -u test1 -p pass321",
        "web-ipc -u -a -a -u other -u test1 -p other --password pass321",
    ] {
        let users = users_of(line);
        assert!(
            users.add && !users.list && !users.change && !users.verify && !users.delete,
            "{line}"
        );
        assert_eq!(credentials(&users), (Some("test1"), Some("pass321")), "{line}");
    }
}

#[test]
fn credentials_are_tested_in_every_spelling() {
    for line in [
        "web-ipc -u -t -u test1 -p pass321",
        "web-ipc --users --testCredentials --user test1 --password pass321",
        "web-ipc --users --test --user test1 --pass pass321",
        "web-ipc -ut -u test1 -p pass321",
    ] {
        let users = users_of(line);
        assert!(users.verify && !users.add, "{line}");
        assert_eq!(credentials(&users), (Some("test1"), Some("pass321")), "{line}");
    }
}

#[test]
fn the_other_actions_on_users() {
    assert!(users_of("web-ipc --users --list").list);
    assert!(users_of("web-ipc --us --li").list);
    assert!(users_of("web-ipc --user --list").list);
    assert!(users_of("web-ipc -ul").list);
    let delete = users_of("web-ipc -u -d -u test1");
    assert!(delete.delete);
    assert_eq!(credentials(&delete), (Some("test1"), None));
    assert!(users_of("web-ipc --users --change --user test1").change);
    let both = users_of("web-ipc --users --list --delete --user test1");
    assert!(both.list && both.delete);
}

#[test]
fn a_password_that_begins_with_a_dash_needs_an_equals_sign() {
    assert_eq!(credentials(&users_of("web-ipc -u -a -u test1 --password=-x")).1, Some("-x"));
    assert_eq!(credentials(&users_of("web-ipc -u -a -u test1 -p=-x")).1, Some("-x"));
    assert_eq!(credentials(&users_of("web-ipc -u -a -u test1 --password -")).1, Some("-"));
    for line in [
        "web-ipc -u -a -u test1 --password -x",
        "web-ipc -u -a -u test1 --password --hunter2",
        "web-ipc -u -a -u test1 --pass -hunter2",
        "web-ipc -u -a -u test1 -p --hunter2",
        "web-ipc -u -a -u test1 -p -123",
        "web-ipc -u -au test1 -p --list",
        "web-ipc -uap --hunter2",
        "web-ipc-users -u test1 -ap --user=hunter2",
        "web-ipc --home /x users -p --hunter2=3 -a",
    ] {
        let told = refusal(line);
        assert!(
            told.starts_with(
                "error: a value is required for '--password <PASSWORD>' but none was supplied\n"
            ),
            "{line}: {told}"
        );
        assert!(
            told.contains("a value that begins with - needs =: --password=VALUE"),
            "{line}: {told}"
        );
        assert!(
            !told.contains("hunter") && !told.contains("-x") && !told.contains("12"),
            "{line}: {told}"
        );
    }
}

#[test]
fn what_may_be_a_password_is_never_shown() {
    for line in [
        "web-ipc -u -a -u test1 hunter2",
        "web-ipc -u -a -u test1 -p pass hunter2",
        "web-ipc -u -a -u test1 -p pass --hunter2",
        "web-ipc -u -a -u test1 -ppass --hunter2=x",
        "web-ipc -u -a -u test1 --passw pass -Xhunter2",
        "web-ipc -uap pass --hunter2",
        "web-ipc --users --add -- hunter2",
        "web-ipc --users --list=hunter2",
        "web-ipc --users=hunter2",
        "web-ipc --test --run -p hunter2",
    ] {
        let told = refusal(line);
        assert!(!told.contains("hunter") && !told.contains("'-h'"), "{line}: {told}");
        assert!(!told.contains("similar"), "{line}: {told}");
    }
    // Before any password, the error repeats the mistyped word.
    let told = refusal("web-ipc --users --lsit --user a --password pass");
    assert!(told.contains("'--lsit'") && told.contains("'--list'"), "{told}");
}

#[test]
fn what_is_told_has_no_control_characters() {
    for words in [
        &["web-ipc", "--a\u{1b}[31m\nb"][..],
        &["web-ipc", "a\u{1b}[31m\nb"],
        &["web-ipc", "--users", "--a\u{1b}[31m\nb"],
        &["web-ipc", "-u", "-\u{1b}[31m\nb"],
        &["web-ipc", "-c", "-n", "a", "--days", "\u{1b}[31m\nb"],
        &["web-ipc", "-t", "-r", "--protocol", "\u{1b}[31m\nb"],
    ] {
        let told = refusal_of(words);
        assert!(!told.replace('\n', "").contains(char::is_control), "{told:?}");
        assert!(!told.contains("\nb"), "{told:?}");
    }
}

#[test]
fn a_command_takes_no_value() {
    for (line, tip) in [
        ("web-ipc --users=list", Some("write '--users --list'")),
        ("web-ipc --home /x --us=li", Some("write '--users --list'")),
        ("web-ipc --home=/x --test=run", Some("write '--test --run'")),
        ("web-ipc -u=list", Some("write '--users --list'")),
        ("web-ipc --init=yes", None),
        ("web-ipc --users=", None),
    ] {
        let told = refusal(line);
        assert!(told.contains("picks the command and takes no value"), "{line}: {told}");
        assert_eq!(tip.is_some(), told.contains("tip: "), "{line}: {told}");
        assert!(told.contains(tip.unwrap_or_default()), "{line}: {told}");
    }
    let told = refusal("web-ipc users list");
    assert!(told.contains("'list'") && told.contains("write '--list'"), "{told}");
}

#[test]
fn a_certificate_needs_a_name() {
    for line in [
        "web-ipc -c -a x",
        "web-ipc --certs --force",
        "web-ipc --certs --days 3",
        "web-ipc-certs --keyType p256",
    ] {
        let told = refusal(line);
        assert!(told.starts_with("error: '--name <NAME>' is required\n"), "{line}: {told}");
        assert!(
            told.contains("--certs [OPTIONS]") || told.contains("web-ipc-certs [OPTIONS]"),
            "{told}"
        );
    }
}

#[test]
fn numbers_and_addresses_say_what_they_take() {
    for (line, takes) in [
        (
            "web-ipc -t -r --qty abc",
            "'abc' for '--qty <N>': it takes a whole number from 0 to 4294967295",
        ),
        (
            "web-ipc -t -r -q -1",
            "'-1' for '--qty <N>': it takes a whole number from 0 to 4294967295",
        ),
        (
            "web-ipc -t -r -q +1",
            "'+1' for '--qty <N>': it takes a whole number from 0 to 4294967295",
        ),
        ("web-ipc -t -r -q 4294967296", "it takes a whole number from 0 to 4294967295"),
        (
            "web-ipc -t -r -p 70000",
            "'70000' for '--port <PORT>': it takes a whole number from 0 to 65535",
        ),
        (
            "web-ipc -t -r -p -1",
            "'-1' for '--port <PORT>': it takes a whole number from 0 to 65535",
        ),
        (
            "web-ipc -c -n a --days -1",
            "'-1' for '--days <N>': it takes a whole number from 0 to 4294967295",
        ),
        ("web-ipc -c -n a --days=", "it takes a whole number from 0 to 4294967295"),
        ("web-ipc -t -r -i nowhere", "it takes one IP address, with or without a port, such as "),
        ("web-ipc -t -r -i [127.0.0.1]", "it takes one IP address, with or without a port"),
        ("web-ipc -t -r -i [::1]:x", "the port must be a number from 0 to 65535"),
        ("web-ipc -t -r --port -x", "a value that begins with - needs =: --port=VALUE"),
    ] {
        let told = refusal(line);
        assert!(told.contains(takes), "{line}: {told}");
    }
}

#[test]
fn the_usage_line_can_be_typed() {
    for (line, usage) in [
        ("web-ipc -h", "Usage: web-ipc [OPTIONS] [COMMAND]\n"),
        ("web-ipc --users -h", "Usage: web-ipc --users [OPTIONS]\n"),
        ("web-ipc help certs", "Usage: web-ipc --certs [OPTIONS]\n"),
        ("web-ipc-users -h", "Usage: web-ipc-users [OPTIONS]\n"),
        ("/bin/web-ipc-certs --help", "Usage: web-ipc-certs [OPTIONS]\n"),
        ("web-ipc-init -h", "Usage: web-ipc-init --run [OPTIONS]\n"),
    ] {
        assert!(help_of_line(line).contains(usage), "{line}: {}", help_of_line(line));
    }
    assert!(refusal("web-ipc-users").contains("Usage: web-ipc-users [OPTIONS]\n"));
    assert!(refusal("web-ipc-test").contains("Usage: web-ipc-test --run [OPTIONS]\n"));
    assert!(refusal("web-ipc help bogus").contains("Usage: web-ipc [OPTIONS] [COMMAND]\n"));
    assert!(refusal("web-ipc-users --zz").contains("Usage: web-ipc-users [OPTIONS]\n"));
    assert!(refusal("web-ipc -t --zz").contains("Usage: web-ipc --test --run [OPTIONS]\n"));
}

#[test]
fn certificates_with_their_names() {
    let certs = certs_of(
        "web-ipc --certs --name testServer1 --altNames testServer1 testServer1.local localhost 127.0.0.1",
    );
    assert_eq!(certs.name, "testServer1");
    assert_eq!(certs.alt_names, ["testServer1", "testServer1.local", "localhost", "127.0.0.1"]);
    assert_eq!((certs.force, certs.days, certs.key_type), (false, None, KeyType::P256));
    let certs = certs_of("web-ipc -c -a A B C -n peer1 -F --days 30 --keyType rsa4096");
    assert_eq!(certs.alt_names, ["A", "B", "C"]);
    assert_eq!((certs.name.as_str(), certs.force, certs.days), ("peer1", true, Some(30)));
    assert_eq!(certs.key_type, KeyType::Rsa4096);
    assert_eq!(certs_of("web-ipc --certs -n a -a B -a C D").alt_names, ["C", "D"]);
    assert_eq!(certs_of("web-ipc-certs -n peer1").name, "peer1");
}

#[test]
fn the_test_has_the_documented_defaults() {
    let test = test_of("web-ipc --test --run");
    assert_eq!(
        (test.name.as_str(), test.address.to_string().as_str()),
        ("localhost", "127.0.0.1:0")
    );
    assert_eq!((test.protocol, test.log_level, test.quantity), (Protocol::Https, None, 100));
}

#[test]
fn the_test_in_every_spelling() {
    for line in [
        "web-ipc --test --run --qty 3",
        "web-ipc --test --run --qty=3",
        "web-ipc -t -rq3",
        "web-ipc -trq3",
        "web-ipc -tr --qt 3",
        "web-ipc --te --ru --qty 7 --qty 3",
        "web-ipc test -r -q 3",
        "web-ipc-test --run -q3",
    ] {
        assert_eq!(test_of(line).quantity, 3, "{line}");
    }
    let test = test_of("web-ipc -t -r -n testServer1 -i ::1 -p 3100 -P http -l critical -q 0");
    assert_eq!(
        (test.name.as_str(), test.address.to_string().as_str()),
        ("testServer1", "[::1]:3100")
    );
    for (line, address) in [
        ("web-ipc -t -r -i [::1]", "[::1]:0"),
        ("web-ipc -t -r -i [::1]:3100", "[::1]:3100"),
        ("web-ipc -t -r -i 127.0.0.1:3100 -p 3100", "127.0.0.1:3100"),
    ] {
        assert_eq!(test_of(line).address.to_string(), address, "{line}");
    }
    assert_eq!(
        (test.protocol, test.log_level, test.quantity),
        (Protocol::Http, Some(LogLevel::Critical), 0)
    );
    for (name, level) in [
        ("debug", LogLevel::Debug),
        ("info", LogLevel::Info),
        ("warning", LogLevel::Warning),
        ("error", LogLevel::Error),
    ] {
        assert_eq!(
            test_of(&format!("web-ipc --test --run --logLevel {name}")).log_level,
            Some(level)
        );
    }
}

#[test]
fn the_home_stands_before_or_after_the_command() {
    for line in [
        "web-ipc --home /x --users --list",
        "web-ipc --users --list --home /x",
        "web-ipc -u --home=/x -l",
        "web-ipc --ho /x -ul",
    ] {
        assert_eq!(invocation(line).home.as_deref(), Some(Path::new("/x")), "{line}");
    }
    assert_eq!(invocation("web-ipc --users --list").home, None);
    assert_eq!(invocation("web-ipc-users --home /x --list").home.as_deref(), Some(Path::new("/x")));
}

#[test]
fn a_command_without_its_action_is_wrong_usage_with_its_help() {
    for (line, told, word) in [
        ("web-ipc", "Delivers", "--users"),
        ("web-ipc --home /x", "Delivers", "--users"),
        ("web-ipc --init", "error: '--init' does nothing without '--run'\n\n", "--force"),
        ("web-ipc init", "error: '--init' does nothing without '--run'\n\n", "--force"),
        ("web-ipc-init", "error: '--init' does nothing without '--run'\n\n", "--force"),
        ("web-ipc -IF", "error: '--init' does nothing without '--run'\n\n", "--force"),
        ("web-ipc --users --user test1", "error: '--users' needs '--add', ", "--testCredentials"),
        ("web-ipc -u", "error: '--users' needs '--add', ", "--testCredentials"),
        (
            "web-ipc --certs",
            "error: '--certs' needs '--name <NAME>', '--list', '--renew' or '--revoke <NAME>'\n\n",
            "--altNames",
        ),
        ("web-ipc -t", "error: '--test' does nothing without '--run'\n\n", "--qty"),
        ("web-ipc -t -q 3", "error: '--test' does nothing without '--run'\n\n", "--qty"),
        ("web-ipc --dead", "error: '--dead' needs '--list', ", "--discard"),
    ] {
        let refusal = refusal(line);
        assert!(refusal.starts_with(told) && refusal.contains(word), "{line}: {refusal}");
        assert!(refusal.contains("Usage: web-ipc"), "{line}: {refusal}");
    }
}

#[test]
fn of_several_actions_the_python_tools_are_kept_and_others_refused() {
    for line in [
        "--list --delete --user a",
        "--list --testCredentials --user a",
        "--add --list --delete --user a",
        "--testCredentials --delete --user a",
    ] {
        users_of(&format!("web-ipc --users {line}"));
    }
    for other in ["--add", "--list", "--testCredentials", "--delete"] {
        let told = refusal(&format!("web-ipc --users {other} --change --user a"));
        assert!(
            told.starts_with(&format!("error: '--change' and '{other}' cannot be used together\n")),
            "{told}"
        );
    }
}

#[test]
fn what_was_not_understood_is_shown_where_no_password_stands_before_it() {
    for (line, shown) in [
        ("web-ipc --send -p 3000 --silent {}", "'--silent'"),
        ("web-ipc --send -p 3000 -q {}", "'-q'"),
        ("web-ipc --send -p3000 -v {}", "'-v'"),
        ("web-ipc --send {} --json", "'--json'"),
        ("web-ipc --send --port 3000 --json --user a --password b {}", "'--json'"),
        ("web-ipc --request -p 3000 -cp -v {}", "'-v'"),
        ("web-ipc --test --run -p 3000 --silent", "'--silent'"),
        ("web-ipc --test --run extra", "'extra'"),
        ("web-ipc --send {} other", "'other'"),
        ("web-ipc --serve -p 3000 --silent", "'--silent'"),
    ] {
        let told = refusal(line);
        assert!(
            told.starts_with(&format!("error: unexpected argument {shown} found\n")),
            "{line}: {told}"
        );
        assert!(!told.contains("as a value"), "{line}: {told}");
    }
    for line in [
        "web-ipc --send --user a --password b --hunter2 {}",
        "web-ipc --send --user a --password b {} hunter2",
        "web-ipc --send {} --user a --pass=b hunter2",
        "web-ipc --send hunter2 --user a --password b hunter2",
        "web-ipc --test --run --user a --password b hunter2",
        "web-ipc --test --run --user a --password b --hunter2",
    ] {
        let told = refusal(line);
        assert!(told.contains("it is not shown") && !told.contains("hunter"), "{line}: {told}");
    }
    let long = format!("--{}", "a".repeat(100_000));
    assert!(refusal_of(&["web-ipc", "--send", &long]).len() < 500);
}

#[test]
fn an_object_without_quotes_is_told_of_quotes() {
    for words in [
        &["web-ipc", "--send", "{a:", "1}"][..],
        &["web-ipc", "--send", "{a:", "-1}"],
        &["web-ipc", "--request", "-p", "3000", "a:1", "b:2"],
    ] {
        let told = refusal_of(words);
        assert!(told.contains("is in quotes: '{\"key\": \"value\"}'"), "{words:?}: {told}");
        assert!(!told.contains("password"), "{words:?}: {told}");
    }
    let told = refusal("web-ipc --send --user me --password x {a: 1}");
    assert!(
        told.contains("--password 'VALUE'") && told.contains("'{\"key\": \"value\"}'"),
        "{told}"
    );
}

#[test]
fn the_command_comes_before_its_options() {
    for (line, tip) in [
        ("web-ipc --run --test", "as in 'web-ipc --init --run'"),
        ("web-ipc --qty 3 --test --run", "as in 'web-ipc --test --qty'"),
        ("web-ipc -r", "as in 'web-ipc -I -r'"),
        ("web-ipc --home /x --exec true --serve", "as in 'web-ipc --serve --exec'"),
    ] {
        let told = refusal(line);
        assert!(told.contains("the command comes first") && told.contains(tip), "{line}: {told}");
    }
    // The error does not repeat the password after it.
    let told = refusal("web-ipc --password hunter2 --users");
    assert!(
        told.contains("as in 'web-ipc --users --password'") && !told.contains("hunter"),
        "{told}"
    );
    assert!(!refusal("web-ipc --bogus").contains("comes first"));
}

#[test]
fn help_and_version_are_no_failures() {
    for line in [
        "web-ipc --help",
        "web-ipc -h",
        "web-ipc --users --help",
        "web-ipc help users",
        "web-ipc --version",
        "web-ipc -V",
    ] {
        assert!(help_of_line(line).contains("web-ipc"), "{line}");
    }
}

#[test]
fn wrong_usage_is_told_with_the_status_2() {
    for line in [
        "web-ipc --bogus",
        "web-ipc serve-me",
        "web-ipc --enrol",
        "web-ipc --init --users",
        "web-ipc --users --lsit",
        "web-ipc --users --add --user",
        "web-ipc --certs --name a --days soon",
        "web-ipc --certs --name a --days=-1",
        "web-ipc --certs --name a --keyType md5",
        "web-ipc --test --run --qty abc",
        "web-ipc --test --run --qty=-1",
        "web-ipc --test --run --port 70000",
        "web-ipc --test --run --protocol ftp",
        "web-ipc --test --run --logLevel INFO",
        "web-ipc --test --run --ip nowhere",
        "web-ipc --test --run extra",
        "web-ipc --home",
    ] {
        let told = refusal(line);
        assert!(told.starts_with("error: ") && told.contains("--help"), "{line}: {told}");
    }
}

fn at(addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|address| (*address).to_owned()).collect()
}

#[test]
fn a_client_is_told_one_address_or_several_with_a_port_for_those_that_have_none() {
    let expected = at(&["inbox.example:4000", "10.0.0.1:3001", "[::1]:4000"]);
    for line in [
        "web-ipc --send --ip inbox.example,10.0.0.1:3001,::1 --port 4000",
        "web-ipc --send -p4000 -i inbox.example -i 10.0.0.1:3001,[::1]",
        "web-ipc send --ip=inbox.example --ip=10.0.0.1:3001 --ip=::1 --po 4000",
    ] {
        let Action::Send(send) = invocation(line).action else { panic!("{line}") };
        assert_eq!(send.target.addresses, expected, "{line}");
        let Action::Request(request) = invocation(&line.replace("send", "request")).action else {
            panic!()
        };
        assert_eq!(request.target.addresses, expected, "{line}");
    }
    for line in
        ["--send --ip a,,b", "--send --ip a:0", "--request --ip 10.0.0", "--request --ip http://a"]
    {
        let told = refusal(&format!("web-ipc {line}"));
        assert!(told.starts_with("error: invalid value '"), "{line}: {told}");
    }
    for line in ["--serve --ip 127.0.0.1:4000 --port 4001", "-t -r -p 0 -i [::1]:3000"] {
        let told = refusal(&format!("web-ipc {line}"));
        assert!(told.contains("but '--port <PORT>' names port "), "{line}: {told}");
        assert!(told.contains("tip: give the port once"), "{line}: {told}");
    }
    // A server listens on one.
    for line in ["--serve --ip 127.0.0.1,::1", "--test --run --ip localhost"] {
        assert!(refusal(&format!("web-ipc {line}")).contains("it takes one IP address"), "{line}");
    }
}

#[test]
fn a_server_shows_its_figures_only_when_told_to() {
    let metrics = |line: &str| {
        let Action::Serve(serve) = invocation(line).action else { panic!("{line}") };
        serve
            .metrics
            .map(|metrics| (metrics.address, metrics.allows_remote, metrics.host_names.join(" ")))
    };
    assert_eq!(metrics("web-ipc --serve"), None);
    let default = Some(("127.0.0.1:9464".to_owned(), false, String::new()));
    assert_eq!(metrics("web-ipc --serve --metrics"), default);
    assert_eq!(metrics("web-ipc --serve --metrics --inbox durable"), default);
    assert_eq!(
        metrics("web-ipc --serve --metrics 0.0.0.0:1 --allowRemoteMetrics"),
        Some(("0.0.0.0:1".to_owned(), true, String::new()))
    );
    for names in ["a.example b.example", "a.example,b.example"] {
        assert_eq!(
            metrics(&format!(
                "web-ipc --serve --metrics 0.0.0.0:1 --allowRemoteMetrics --metricsNames {names} --inbox durable"
            )),
            Some(("0.0.0.0:1".to_owned(), true, "a.example b.example".to_owned()))
        );
    }
    let told = refusal("web-ipc --serve --allowRemoteMetrics");
    assert!(told.contains("'--allowRemoteMetrics' needs '--metrics'"), "{told}");
    let told = refusal("web-ipc --serve --metricsNames a.example");
    assert!(told.contains("'--metricsNames' needs '--metrics'"), "{told}");
}

#[cfg(feature = "python-compat")]
#[test]
fn a_server_takes_messages_of_the_python_tool_only_when_told_to() {
    let is_told = |line: &str| {
        let Action::Serve(serve) = invocation(line).action else { panic!("{line}") };
        serve.python_compat
    };
    assert!(!is_told("web-ipc --serve"));
    assert!(is_told("web-ipc --serve --compat python"));
    assert!(is_told("web-ipc serve --compat=python --inbox durable"));
    let told = refusal("web-ipc --serve --compat python --protocol http");
    assert!(told.contains("'--compat python' needs '--protocol https'"), "{told}");
    let told = refusal("web-ipc --serve --compat perl");
    assert!(told.contains("[possible values: python]"), "{told}");
    // It came after the list of abbreviations was closed.
    refusal("web-ipc --serve --comp python");
}

#[cfg(feature = "python-compat")]
#[test]
fn a_client_sends_to_the_python_tool_only_when_told_to_and_then_knows_no_ids() {
    let is_told = |line: &str| {
        let Action::Send(send) = invocation(line).action else { panic!("{line}") };
        send.python_compat
    };
    assert!(!is_told("web-ipc --send {}"));
    assert!(is_told("web-ipc --send --compat python {}"));
    assert!(is_told("web-ipc send --compat=python --protocol http -k"));
    let id = "00000000-0000-4000-8000-000000000000";
    for option in [format!("--id {id}"), "--idKey a".into(), "--ids".into(), "--batch 9".into()] {
        let told = refusal(&format!("web-ipc --send --compat python {option} {{}}"));
        assert!(told.contains("cannot be used together"), "{told}");
    }
    let told = refusal("web-ipc --send --compat perl {}");
    assert!(told.contains("[possible values: python]"), "{told}");
    let told = refusal("web-ipc --request --compat python {}");
    assert!(told.contains("gives no replies"), "{told}");
    refusal("web-ipc --test --run --compat python");
}

#[test]
fn the_pipeline_commands_in_every_spelling() {
    for line in [
        "web-ipc --serve --port 3000 --inbox durable --exec ./deploy.sh --jobs 4",
        "web-ipc -s -p3000 -bdurable -x ./deploy.sh -j4",
        "web-ipc serve --po 3000 --in=durable --ex ./deploy.sh --jobs=4",
        "web-ipc-serve -p 3000 -b durable -x ./deploy.sh -j 4",
    ] {
        let Action::Serve(serve) = invocation(line).action else { panic!("{line}") };
        assert_eq!(
            (serve.address.port(), serve.inbox, serve.jobs),
            (3000, InboxKind::Durable, 4),
            "{line}"
        );
        assert_eq!(
            (serve.name.as_str(), serve.exec.as_deref()),
            ("localhost", Some("./deploy.sh")),
            "{line}"
        );
    }
    let line = "web-ipc -S -p 4000 -u me --password x -T 5 -b 10 -k {\"a\":1}";
    let Action::Send(send) = invocation(line).action else { panic!("{line}") };
    assert_eq!((send.timeout_secs, send.batch, send.keep_going), (5, 10, true));
    assert_eq!(
        (send.target.addresses, send.target.user.as_deref()),
        (at(&["127.0.0.1:4000"]), Some("me"))
    );
    assert_eq!(send.what, ToSend::Object("{\"a\":1}".to_owned()));
    let Action::Send(send) = invocation("web-ipc --send").action else { panic!() };
    let stdin = ToSend::Lines(vec![Input::Stdin]);
    assert_eq!((&send.what, send.timeout_secs, send.batch), (&stdin, 30, 500));
    assert_eq!(send.target.addresses, at(&["127.0.0.1:3000"]));
    let Action::Request(request) = invocation("web-ipc request {} --timeout 60").action else {
        panic!()
    };
    assert_eq!((request.message.as_deref(), request.timeout_secs), (Some("{}"), 60));
    let Action::Request(request) = invocation("web-ipc --request").action else { panic!() };
    assert_eq!(request.message, None);
    let Action::Send(send) = invocation("web-ipc --send -").action else { panic!() };
    assert_eq!(send.what, stdin);
    assert!(refusal("web-ipc --send {} {}").contains("web-ipc --send"));
    assert!(
        refusal("web-ipc --serve --jobs 4")
            .contains("error: '--jobs <N>' needs '--exec <COMMAND>'\n")
    );
    for line in ["--batch 0", "--batch 1001", "--timeout 0", "--timeout 481"] {
        assert!(
            refusal(&format!("web-ipc --send {line} {{}}"))
                .contains("it takes a whole number from 1 to "),
            "{line}"
        );
    }
}

fn send_of(line: &str) -> SendArgs {
    match invocation(line).action {
        Action::Send(send) => send,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn what_is_sent_is_an_object_or_the_lines_of_files_and_ids_are_new_or_given() {
    let file = |name: &str| Input::File(name.into());
    for (line, inputs) in [
        ("web-ipc --send a.jsonl", vec![file("a.jsonl")]),
        ("web-ipc --send a.jsonl - --batch 5", vec![file("a.jsonl"), Input::Stdin]),
        ("web-ipc send a b --user me --password x", vec![file("a"), file("b")]),
    ] {
        assert_eq!(send_of(line).what, ToSend::Lines(inputs), "{line}");
    }
    for (line, told) in [
        ("web-ipc --send {} a", "error: unexpected argument 'a' found\n"),
        ("web-ipc --send a {}", "error: unexpected argument '{}' found\n"),
        (
            "web-ipc --send --user me --password x a b",
            "an unexpected argument was found; it is not",
        ),
        (
            "web-ipc --send --id 01a21eda-5ee0-793e-8423-bfd2df81e5de a",
            "'--id <ID>' needs an object",
        ),
        ("web-ipc --send --id 01a21eda-5ee0-793e-8423-bfd2df81e5de", "'--id <ID>' needs an object"),
        (
            "web-ipc --send --id 01a21eda-5ee0-793e-8423-bfd2df81e5de --idKey id {}",
            "cannot be used together",
        ),
    ] {
        assert!(refusal(line).contains(told), "{line}: {}", refusal(line));
    }
    for line in [
        "web-ipc --send --user a --password se cret",
        "web-ipc --send --user a --password=se cret",
        "web-ipc --send --user a -P https --pass se cret",
    ] {
        let told = refusal(line);
        assert!(told.contains("it is not shown, as it may be part of a password"), "{told}");
        assert!(!told.contains("cret"), "{told}");
    }
    // A file that is there is one, and what looks like an object is refused as such, unseen.
    let there = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert_eq!(
        send_of(&format!("web-ipc --send --user a --password x {there}")).what,
        ToSend::Lines(vec![file(there)])
    );
    assert_eq!(
        send_of("web-ipc --send --user a --password x -").what,
        ToSend::Lines(vec![Input::Stdin])
    );
    for half in ["\"password\":\"hunter2\"", "password:hunter2", "\"hunter2\""] {
        let line = format!("web-ipc --send {half}");
        assert_eq!(send_of(&line).what, ToSend::Object(half.to_owned()), "{line}");
    }
    let new = send_of("web-ipc --send {}");
    assert_eq!((new.ids, new.prints_ids), (GivenIds::New, false));
    let id = "01a21eda-5ee0-793e-8423-bfd2df81e5de";
    let given = send_of(&format!("web-ipc --send --ids --id {id} {{}}"));
    assert_eq!((given.ids, given.prints_ids), (GivenIds::Id(id.parse().unwrap()), true));
    for line in
        ["web-ipc --send --idKey n", "web-ipc --send --id-key n", "web-ipc --send --idKey=n {}"]
    {
        assert_eq!(send_of(line).ids, GivenIds::Member("n".to_owned()), "{line}");
    }
}

fn dead_of(line: &str) -> DeadAction {
    match invocation(line).action {
        Action::Dead(dead) => dead.action,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn dead_letters_in_every_spelling() {
    for line in [
        "web-ipc --dead --list",
        "web-ipc -d -l",
        "web-ipc -dl",
        "web-ipc dead --li",
        "web-ipc-dead -l",
    ] {
        assert_eq!(dead_of(line), DeadAction::List, "{line}");
    }
    for line in [
        "web-ipc --dead --putBack 3 5",
        "web-ipc -d -p 3 5",
        "web-ipc de --put 3 5",
        "web-ipc-dead -p 3 5",
    ] {
        assert_eq!(dead_of(line), DeadAction::PutBack(Letters::Numbers(vec![3, 5])), "{line}");
    }
    assert_eq!(
        dead_of("web-ipc --dead --discard 7"),
        DeadAction::Discard(Letters::Numbers(vec![7]))
    );
    assert_eq!(dead_of("web-ipc -d -x all"), DeadAction::Discard(Letters::All));
    assert_eq!(dead_of("web-ipc -d -p all"), DeadAction::PutBack(Letters::All));
    assert!(refusal("web-ipc --dead").contains("--putBack"));
    for line in ["-p", "-p 1x", "-p +1", "-p 18446744073709551616", "-l -x 1", "-p 1 -x 1", "list"]
    {
        let told = refusal(&format!("web-ipc --dead {line}"));
        assert!(
            told.starts_with("error: ") && told.contains("Usage: web-ipc --dead"),
            "{line}: {told}"
        );
    }
}

#[test]
fn messages_and_dead_letters_are_listed_once_or_followed() {
    for (line, follows) in [
        ("web-ipc --inbox --list", false),
        ("web-ipc -bl", false),
        ("web-ipc inbox -l --follow", true),
        ("web-ipc-inbox --list -f", true),
    ] {
        let action = invocation(line).action;
        assert!(matches!(action, Action::Inbox { follow } if follow == follows), "{line}");
    }
    for (line, follows) in [("web-ipc -dl", false), ("web-ipc --dead --list --follow", true)] {
        let Action::Dead(dead) = invocation(line).action else { panic!("{line}") };
        assert_eq!((dead.action, dead.follow), (DeadAction::List, follows), "{line}");
    }
    assert!(refusal("web-ipc --inbox").contains("error: '--inbox' needs '--list'\n"));
    assert!(refusal("web-ipc --inbox --follow").contains("error: '--inbox' needs '--list'\n"));
    let told = refusal("web-ipc --dead --discard all --follow");
    assert!(told.contains("error: '--follow' needs '--list'\n"), "{told}");
}

#[test]
fn what_is_short_for_several_is_told() {
    for (line, told) in [
        ("web-ipc --se", "'--se' may be '--serve' or '--send'\n"),
        ("web-ipc se", "'se' may be 'serve' or 'send'\n"),
        ("web-ipc --s {}", "'--s' may be '--serve' or '--send'\n"),
        ("web-ipc --test --p 1", "'--p' may be '--port', '--protocol' or '--password'\n"),
        ("web-ipc --send --p 1", "'--p' may be '--port', '--protocol' or '--password'\n"),
        ("web-ipc --users --l --x", "unexpected argument"),
    ] {
        assert!(refusal(line).contains(told), "{line}: {}", refusal(line));
    }
}

#[test]
fn tries_are_for_a_durable_inbox_and_a_password_for_a_user() {
    let Action::Serve(serve) = invocation("web-ipc --serve -b durable -r 3").action else {
        panic!()
    };
    assert_eq!(serve.tries, Some(3));
    let Action::Serve(serve) = invocation("web-ipc --serve -b durable").action else { panic!() };
    assert_eq!(serve.tries, None);
    assert!(refusal("web-ipc --serve --tries 3").contains("needs '--inbox durable'"));
    assert!(refusal("web-ipc --serve -b durable --tries 0").contains("from 1 to 65535"));
    assert!(
        refusal("web-ipc --send --password x {}")
            .contains("error: '--password <PASSWORD>' needs '--user <NAME>'\n")
    );
    assert!(refusal("web-ipc --test --run --password x").contains("needs '--user <NAME>'"));
    let test = test_of("web-ipc --test --run -u me --pass x");
    assert_eq!((test.user.as_deref(), test.password.unwrap().as_str()), (Some("me"), "x"));
    assert!(
        refusal_of(&["web-ipc", "--serve", "--exec", " "])
            .contains("it takes a command for a shell")
    );
}

#[test]
fn the_page_of_commands_names_each_command_and_each_of_its_options() {
    let page = include_str!("../../../../docs/commands.md");
    let mut missing = Vec::new();
    for command in commands::command().get_subcommands() {
        let words = command.get_arguments().filter_map(|argument| argument.get_long());
        for word in words.chain([command.get_name()]) {
            let named = format!("--{word}");
            let is_there = page.match_indices(&named).any(|(at, _)| {
                !page[at + named.len()..].starts_with(|next: char| next.is_ascii_alphanumeric())
            });
            if !is_there {
                missing.push(format!("{named} of {}", command.get_name()));
            }
        }
    }
    assert!(missing.is_empty(), "docs/commands.md does not name {missing:?}");
}

#[test]
fn abbreviations_of_users_options_mean_what_they_meant_before_there_were_more() {
    assert!(users_of("web-ipc --users --d --u bob").delete);
    assert!(users_of("web-ipc --users --l").list);
    let changed = users_of("web-ipc --users --c --u bob --p x");
    assert!(changed.change && changed.user.as_deref() == Some("bob"));
}

#[test]
fn a_user_is_disabled_enabled_bound_and_unbound_by_one_option_each() {
    let account = |line| users_of(line).account.unwrap();
    assert!(matches!(account("web-ipc --users --disable -u bob"), AccountChange::Disable));
    assert!(matches!(account("web-ipc -u --en -u bob"), AccountChange::Enable));
    assert!(matches!(account("web-ipc --users --bind bob --cert w1"),
        AccountChange::Bind { user, peer } if user == "bob" && peer == "w1"));
    assert!(matches!(account("web-ipc --users --unbind bob"),
        AccountChange::Unbind { user } if user == "bob"));
    assert!(users_of("web-ipc --users --list --long").long);
}

#[test]
fn certificates_are_listed_revoked_and_renewed() {
    let action = |line: &str| invocation(line).action;
    for line in ["web-ipc --certs --list", "web-ipc -cl", "web-ipc-certs --li"] {
        assert!(matches!(action(line), Action::ListCertificates), "{line}");
    }
    for line in
        ["web-ipc --certs --revoke peer1", "web-ipc -c -R peer1", "web-ipc certs --rev=peer1"]
    {
        assert!(matches!(action(line), Action::Revoke(which) if which == "peer1"), "{line}");
    }
    for (line, which) in [
        ("web-ipc --certs --renew", Renew::All),
        ("web-ipc --certs --renew --all", Renew::All),
        ("web-ipc --certs --ren --du", Renew::Due),
        ("web-ipc -crD", Renew::Due),
        ("web-ipc --certs --renew --name peer1", Renew::Name("peer1".to_owned())),
    ] {
        assert!(matches!(action(line), Action::Renew(asked) if asked == which), "{line}");
    }
    assert!(matches!(action("web-ipc --certs --rotateCa"), Action::RotateAuthority));
    assert!(matches!(action("web-ipc -c --ro"), Action::RotateAuthority));
    for (line, forced) in [("web-ipc --certs --dropOldCa", false), ("web-ipc -cF --dr", true)] {
        assert!(
            matches!(action(line), Action::DropOldAuthority { force } if force == forced),
            "{line}"
        );
    }
    for line in [
        "web-ipc --certs --all",
        "web-ipc --certs --due",
        "web-ipc --certs --renew --all --due",
        "web-ipc --certs --renew --name a --due",
        "web-ipc --certs --renew --name a --days 3",
        "web-ipc --certs --renew --revoke a",
        "web-ipc --certs --list --name a",
        "web-ipc --certs --revoke",
        "web-ipc --certs --revoke a --force",
        "web-ipc --certs --rotateCa --force",
        "web-ipc --certs --rotateCa --dropOldCa",
        "web-ipc --certs --dropOldCa --name a",
    ] {
        refusal(line);
    }
}

#[test]
fn abbreviations_that_were_there_before_other_options_stay() {
    assert_eq!(certs_of("web-ipc --certs --name a --a B C").alt_names, ["B", "C"]);
    assert_eq!(certs_of("web-ipc --certs --name a --al B").alt_names, ["B"]);
    assert_eq!(certs_of("web-ipc --certs --n a --d 3").days, Some(3));
}

#[test]
fn keys_are_listed_rotated_and_dropped() {
    let keys = |line: &str| match invocation(line).action {
        Action::Keys(keys) => keys,
        other => panic!("{line}: {other:?}"),
    };
    for line in ["web-ipc --keys --list", "web-ipc -kl", "web-ipc-keys -l", "web-ipc ke --li"] {
        assert_eq!(keys(line), Keys::List, "{line}");
    }
    assert_eq!(keys("web-ipc --keys --rotate"), Keys::Rotate(Ring::Envelope));
    assert_eq!(keys("web-ipc -krs"), Keys::Rotate(Ring::Session));
    let id = "0a0b0c0d".parse().unwrap();
    let drop = |ring, force| Keys::Drop { ring, id, force };
    assert_eq!(keys("web-ipc --keys --drop 0A0B0C0D"), drop(Ring::Envelope, false));
    assert_eq!(keys("web-ipc --keys --drop 0A0B0C0D --force"), drop(Ring::Envelope, true));
    assert_eq!(keys("web-ipc -k -s -d 0a0b0c0d"), drop(Ring::Session, false));
    for line in [
        "web-ipc --keys",
        "web-ipc --keys --drop 1",
        "web-ipc --keys --session",
        "web-ipc --keys --force",
        "web-ipc --keys --rotate --force",
        "web-ipc --keys --list --force",
    ] {
        refusal(line);
    }
}

#[test]
fn a_client_is_enrolled_in_every_spelling() {
    let enrol = |line: &str| match invocation(line).action {
        Action::Enrol(enrol) => enrol,
        other => panic!("{line}: {other:?}"),
    };
    for line in [
        "web-ipc --enrol --create --name worker1 --server a,10.0.0.1:3001 ::1",
        "web-ipc -e -c -n worker1 -s a 10.0.0.1:3001 ::1",
        "web-ipc-enrol --cr --na worker1 --server a 10.0.0.1:3001 [::1]",
    ] {
        let Enrol::Create(create) = enrol(line) else { panic!("{line}") };
        assert_eq!((&*create.name, &*create.server), ("worker1", "localhost"));
        assert_eq!(create.addresses, ["a:3000", "10.0.0.1:3001", "[::1]:3000"], "{line}");
        assert_eq!((create.user, create.days, create.out), (None, None, None));
    }
    let line = "web-ipc -ecn worker1 -u w1 --serverName s1 -d 30 -o bundle";
    let Enrol::Create(create) = enrol(line) else { panic!() };
    assert_eq!((create.user.as_deref(), &*create.server), (Some("w1"), "s1"));
    assert_eq!((create.days, create.out), (Some(30), Some(PathBuf::from("bundle"))));
    assert!(create.addresses.is_empty());
    assert!(matches!(enrol("web-ipc --enrol --accept -"), Enrol::Accept(None)));
    assert!(matches!(
        enrol("web-ipc enrol -a bundle"),
        Enrol::Accept(Some(file)) if file == Path::new("bundle")
    ));
    assert!(matches!(enrol("web-ipc -el"), Enrol::List));
    assert!(matches!(enrol("web-ipc -e --cancel a"), Enrol::Cancel(name) if name == "a"));
    for line in [
        "web-ipc --enrol",
        "web-ipc --enrol --create",
        "web-ipc --enrol --name a",
        "web-ipc --enrol --create --name a --accept -",
        "web-ipc --enrol --accept - --out b",
        "web-ipc --enrol --accept - --list",
        "web-ipc --enrol --list --cancel a",
        "web-ipc --enrol --cancel a --name b",
        "web-ipc --enrol --create --name a --server http://b",
        "web-ipc --enrol --create --name a --days soon",
        "web-ipc --enrol --accept",
    ] {
        refusal(line);
    }
}

#[test]
fn the_doctor_is_called_in_every_spelling() {
    let doctor = |line: &str| match invocation(line).action {
        Action::Doctor(doctor) => doctor,
        other => panic!("{line}: {other:?}"),
    };
    for line in [
        "web-ipc --doctor --server a,10.0.0.1:3001 ::1 --json",
        "web-ipc -D -s a 10.0.0.1:3001 ::1 -j",
        "web-ipc-doctor --se a 10.0.0.1:3001 [::1] --js",
        "web-ipc --do -js a,10.0.0.1:3001,::1",
    ] {
        let given = doctor(line);
        assert_eq!(given.addresses, ["a:3000", "10.0.0.1:3001", "[::1]:3000"], "{line}");
        assert!(given.json, "{line}");
    }
    let plain = doctor("web-ipc doctor");
    assert_eq!((plain.addresses.len(), plain.json, plain.port), (0, false, 3000));
    assert_eq!((plain.name, plain.identity), (None, None));
    let named = doctor("web-ipc -D -n inbox.example -c peer1 -P http");
    assert_eq!(named.name.as_deref(), Some("inbox.example"));
    assert_eq!(named.identity.as_deref(), Some("peer1"));
    assert_eq!(named.protocol, Protocol::Http);
    // These meant --dead before there was --doctor.
    for line in ["web-ipc --d --list", "web-ipc d -l", "web-ipc -dl"] {
        assert!(matches!(invocation(line).action, Action::Dead(_)), "{line}");
    }
    for line in [
        "web-ipc --doctor --server",
        "web-ipc --doctor --server http://a",
        "web-ipc --doctor --server a:0",
        "web-ipc --doctor --json=yes",
        "web-ipc --doctor --protocol ftp",
        "web-ipc --doctor a",
    ] {
        refusal(line);
    }
}

#[test]
fn the_address_of_an_inbox_is_not_repeated_and_says_what_is_wrong_with_it() {
    for command in ["--serve", "--dead --list"] {
        let told = refusal(&format!("web-ipc {command} --inbox nats://me:secret@host"));
        assert!(!told.contains("secret"), "{told}");
        let expected = match cfg!(feature = "jetstream") {
            true => "the address names no stream",
            false => "this web-ipc was built without NATS JetStream",
        };
        assert!(told.contains(expected), "{told}");
    }
}

#[cfg(feature = "jetstream")]
#[test]
fn an_inbox_on_jetstream_is_served_and_looked_into() {
    let line = "web-ipc --serve --inbox nats://n1,n2:5/JOBS?replicas=3 --tries 3";
    let Action::Serve(serve) = invocation(line).action else { panic!() };
    let InboxKind::JetStream(options) = serve.inbox else { panic!() };
    assert_eq!(options.to_string(), "nats://n1:4222,n2:5/JOBS");
    assert_eq!((options.replica_count(), serve.tries), (3, Some(3)));
    let line = "web-ipc --dead --putBack all --inbox nats://n1/JOBS";
    let Action::Dead(dead) = invocation(line).action else { panic!() };
    assert!(matches!(dead.inbox, InboxKind::JetStream(_)));
    let Action::Dead(dead) = invocation("web-ipc --dead --list").action else { panic!() };
    assert_eq!(dead.inbox, InboxKind::Durable);
}
