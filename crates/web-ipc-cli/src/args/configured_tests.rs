//! The configuration in files and the environment, and what the command line makes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// A directory with the file of a host, and a home.
struct World {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl World {
    fn new(system: &str, home: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        let world = Self { folder, variables: Vec::new() };
        for (name, text) in [("system.toml", system), ("home/web-ipc.toml", home)] {
            fs::write(world.path(name), text).unwrap();
            fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    /// A text with the paths in this world as relative ones.
    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.path("x").parent().unwrap().display()), "")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn parse(&self, line: &str) -> Result<Invocation, UsageError> {
        let mut variables: Vec<(OsString, OsString)> = vec![
            ("WEB_IPC_CONFIG".into(), self.path("system.toml").into()),
            ("WEB_IPC_HOME".into(), self.path("home").into()),
        ];
        // A later one replaces the one before it.
        for (name, value) in &self.variables {
            variables.retain(|(other, _)| other != name.as_str());
            variables.push((name.into(), value.into()));
        }
        let words = line.split_whitespace().map(OsString::from);
        super::parse(words, &Surroundings { variables })
    }

    fn serve(&self, line: &str) -> Serve {
        match self.parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).action {
            Action::Serve(serve) => serve,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn send(&self, line: &str) -> SendArgs {
        match self.parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).action {
            Action::Send(send) => send,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// The refusal, with short paths.
    fn refusal(&self, line: &str) -> String {
        let error = match self.parse(line) {
            Ok(invocation) => panic!("{line}: {invocation:?}"),
            Err(error) => error.to_string(),
        };
        self.short(&error)
    }

    fn rows(&self, table: &str) -> Vec<String> {
        match self.parse(&format!("web-ipc --config --show {table}")).unwrap().action {
            Action::Config { view, .. } => view
                .rows
                .unwrap()
                .iter()
                .filter(|row| row.source != Source::Default)
                .map(|row| format!("{} {:?} {}", row.key, row.value, row.source))
                .map(|row| self.short(&row))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn faults(&self) -> Vec<String> {
        match self.parse("web-ipc --config --check").unwrap().action {
            Action::Config { view, .. } => view.faults.iter().map(|row| self.short(row)).collect(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_home_and_that_over_the_host() {
    let world = World::new(
        "[serve]\nport = 1\ndrain = 1\nname = \"a\"\nstopWithin = 1\nquiet = true\n",
        "[serve]\nport = 2\ndrain = 2\nname = \"b\"\n",
    )
    .with("WEB_IPC_SERVE_PORT", "3")
    .with("WEB_IPC_SERVE_DRAIN", "3")
    // An empty one counts as not set.
    .with("WEB_IPC_SERVE_NAME", "");
    let serve = world.serve("web-ipc --serve --port 4");
    assert_eq!(serve.address.port(), 4);
    assert_eq!((serve.drain_secs, serve.name.as_str(), serve.stop_within_secs), (3, "b", 1));
    assert!(world.parse("web-ipc --serve").unwrap().quiet);
    assert!(!world.parse("web-ipc --send {}").unwrap().quiet);
    assert_eq!(
        world.rows("serve"),
        [
            "serve.name Text(\"b\") home/web-ipc.toml:4",
            "serve.port Number(3) environment WEB_IPC_SERVE_PORT",
            "serve.drain Number(3) environment WEB_IPC_SERVE_DRAIN",
            "serve.stopWithin Number(1) system.toml:5",
            "serve.quiet Flag(true) system.toml:6",
        ]
    );
}

#[test]
fn every_kind_of_value_arrives_in_either_spelling() {
    let world = World::new(
        "",
        "[serve]\nmetrics = true\nallow-remote-metrics = true\nlog-level = \"error\"\n\
         inbox = \"durable\"\ntries = 0x3\nexec = \"false\"\n\
         [send]\nip = [\"a.example\", \"[::1]:7\"]\nkeepGoing = true\nids = false\nbatch = 10\n\
         [dead]\ninbox = \"durable\"\n",
    );
    let serve = world.serve("web-ipc --serve");
    let metrics =
        Metrics { address: "127.0.0.1:9464".into(), allows_remote: true, host_names: Vec::new() };
    assert_eq!(serve.metrics, Some(metrics));
    assert_eq!((serve.log_level, serve.tries), (Some(LogLevel::Error), Some(3)));
    assert_eq!((serve.inbox, serve.exec.as_deref()), (InboxKind::Durable, Some("false")));
    let send = world.send("web-ipc --send {}");
    assert_eq!(send.target.addresses, ["a.example:3000", "[::1]:7"]);
    assert!(send.target.given.addresses && !send.target.given.name);
    assert_eq!((send.keep_going, send.prints_ids, send.batch), (true, false, 10));
    // The whole list gives way, as defaults do.
    assert_eq!(world.send("web-ipc --send --ip b {}").target.addresses, ["b:3000"]);
    let world = world
        .with("WEB_IPC_SERVE_METRICS", "false")
        .with("WEB_IPC_SEND_IP", "c,d:1")
        .with("WEB_IPC_SEND_IDS", "1")
        .with("WEB_IPC_SEND_KEEP_GOING", "false");
    assert_eq!(world.serve("web-ipc --serve").metrics, None);
    let send = world.send("web-ipc --send {}");
    assert_eq!(send.target.addresses, ["c:3000", "d:1"]);
    assert_eq!((send.keep_going, send.prints_ids), (false, true));
}

#[test]
fn what_the_command_line_excludes_or_what_lacks_its_companion_is_left_out() {
    let world = World::new(
        "",
        "[serve]\nexec = \"x\"\njobs = 4\ntries = 5\ninbox = \"durable\"\n\
         [send]\nidKey = \"n\"\n[certs]\ndays = 30\nkeyType = \"rsa2048\"\nusersDb = \"postgres://db/a\"\n\
         [enrol]\nserverName = \"s\"\ndays = 3\nusersDb = \"postgres://db/a\"\n",
    );
    let serve = world.serve("web-ipc --serve");
    assert_eq!((serve.exec.as_deref(), serve.jobs, serve.tries), (Some("x"), 4, Some(5)));
    let serve = world.serve("web-ipc --serve --body");
    assert_eq!((serve.exec, serve.jobs, serve.body_only), (None, 1, true));
    let serve = world.serve("web-ipc --serve --inbox memory");
    assert_eq!((serve.inbox, serve.tries), (InboxKind::Memory, None));
    let id = "0191a2b3-c4d5-76e7-98f9-0a1b2c3d4e5f";
    assert!(matches!(world.send(&format!("web-ipc --send --id {id} {{}}")).ids, GivenIds::Id(_)));
    assert!(matches!(world.send("web-ipc --send {}").ids, GivenIds::Member(_)));
    let users_db = |line: &str| world.parse(line).unwrap().users_db;
    match world.parse("web-ipc --certs --name a").unwrap().action {
        Action::Certs(certs) => assert_eq!(certs.days, Some(30)),
        other => panic!("{other:?}"),
    }
    assert!(users_db("web-ipc --certs --name a").is_none());
    assert!(users_db("web-ipc --certs --list").is_some());
    assert!(matches!(world.parse("web-ipc --certs --renew").unwrap().action, Action::Renew(_)));
    match world.parse("web-ipc --enrol --create --name a").unwrap().action {
        Action::Enrol(Enrol::Create(create)) => {
            assert_eq!((create.server.as_str(), create.days), ("s", Some(3)))
        }
        other => panic!("{other:?}"),
    }
    for line in ["web-ipc --enrol --list", "web-ipc --enrol --cancel a"] {
        assert!(matches!(world.parse(line).unwrap().action, Action::Enrol(_)), "{line}");
    }
    // Without an action there is none, whatever is configured.
    assert!(world.refusal("web-ipc --certs").starts_with("error: '--certs' needs "));
    assert!(world.refusal("web-ipc --enrol").starts_with("error: '--enrol' needs "));
}

#[test]
fn a_companion_that_is_missing_makes_no_fault_and_needs_no_secret() {
    let world = World::new(
        "",
        "[serve]\nmetrics = true\nmetricsNames = \"a.example\"\n\
         [backup]\ncodeFile = \"/nowhere/code\"\n\
         [certs]\nusersDb = { file = \"nowhere\" }\n",
    )
    .with("WEB_IPC_SERVE_METRICS", "false");
    assert_eq!(world.serve("web-ipc --serve").metrics, None);
    assert!(world.parse("web-ipc --backup --run --out copy").is_ok());
    assert!(world.parse("web-ipc --certs --name peer").is_ok());
    assert!(world.parse("web-ipc --certs --list").is_err(), "its users are named there");
}

#[test]
fn quiet_on_the_command_line_wins_over_a_configured_level() {
    let world = World::new("", "[serve]\nlogLevel = \"info\"\n");
    assert_eq!(world.serve("web-ipc --serve").log_level, Some(LogLevel::Info));
    assert_eq!(world.serve("web-ipc --serve --quiet").log_level, None);
    let debug = world.serve("web-ipc --serve --quiet --logLevel debug").log_level;
    assert_eq!(debug, Some(LogLevel::Debug));
}

#[cfg(feature = "python-compat")]
#[test]
fn a_configured_protocol_of_the_peer_is_never_left_out() {
    let world = World::new("", "[send]\ncompat = \"python\"\n");
    assert!(world.parse("web-ipc --send {}").is_ok());
    let refusal = world.refusal("web-ipc --send --batch 3 {}");
    assert!(refusal.contains("send.compat: it cannot be used together with --batch"), "{refusal}");
    let world = world.with("WEB_IPC_SEND_BATCH", "3");
    let refusal = world.refusal("web-ipc --send {}");
    assert!(refusal.contains("send.compat: it cannot be used together with "), "{refusal}");
}

#[test]
fn what_excludes_each_other_in_one_file_is_refused_and_a_higher_one_wins() {
    let both = World::new("", "[serve]\nexec = \"x\"\nbody = true\n");
    assert_eq!(
        both.faults(),
        ["home/web-ipc.toml:3: serve.body: it cannot be used together with serve.exec"]
    );
    assert!(both.refusal("web-ipc --serve").contains(":3: serve.body: it cannot"));
    let higher = World::new("[serve]\nexec = \"x\"\n", "[serve]\nbody = true\n");
    assert!(higher.serve("web-ipc --serve").body_only);
    assert_eq!(higher.faults(), [""; 0]);
}

#[test]
fn a_port_on_the_command_line_wins_over_that_of_a_configured_address_and_the_other_way_round() {
    let of = |world: &World, line: &str| world.serve(line).address.to_string();
    let world = World::new("", "[serve]\nip = \"0.0.0.0:7\"\n");
    assert_eq!(of(&world, "web-ipc --serve"), "0.0.0.0:7");
    assert_eq!(of(&world, "web-ipc --serve --port 8"), "0.0.0.0:8");
    let world = World::new("", "[serve]\nport = 9\n");
    assert_eq!(of(&world, "web-ipc --serve --ip 0.0.0.0:7"), "0.0.0.0:7");
    assert_eq!(of(&world, "web-ipc --serve --ip 0.0.0.0"), "0.0.0.0:9");
    let world = World::new("", "[serve]\nip = \"0.0.0.0:7\"\nport = 9\n");
    let refusal = world.refusal("web-ipc --serve");
    assert!(refusal.contains("names port 7") && refusal.contains("--config --show"), "{refusal}");
}

#[test]
fn a_password_is_only_for_the_user_that_it_was_configured_for() {
    let world = World::new("", "[send]\nuser = \"a\"\npassword = { file = \"secret\" }\n");
    let secret = world.path("home/secret");
    fs::write(&secret, "pass321\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let login = |world: &World, line: &str| {
        let target = world.send(line).target;
        (target.user, target.password.map(|password| password.to_string()))
    };
    let of =
        |user: &str, password: Option<&str>| (Some(user.to_owned()), password.map(str::to_owned));
    assert_eq!(login(&world, "web-ipc --send {}"), of("a", Some("pass321")));
    assert_eq!(login(&world, "web-ipc --send --user b {}"), of("b", None));
    assert_eq!(login(&world, "web-ipc --send --password x {}"), of("a", Some("x")));
    assert_eq!(
        world.rows("send"),
        [
            "send.user Text(\"a\") home/web-ipc.toml:2",
            "send.password Secret(\"in file home/secret\") home/web-ipc.toml:3",
        ]
    );
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o604)).unwrap();
    let refusal = world.refusal("web-ipc --send {}");
    assert!(refusal.contains("can be read by other users (mode 0604); run chmod o="), "{refusal}");
    let world = world.with("WEB_IPC_SEND_USER", "c");
    assert_eq!(login(&world, "web-ipc --send {}"), of("c", None));
}

#[test]
fn a_secret_is_in_a_file_or_a_credential_and_never_shown() {
    let home = "[serve]\nusersDb = { credential = \"db\" }\n";
    let world = World::new("", home);
    let refusal = world.refusal("web-ipc --serve");
    assert!(refusal.contains("$CREDENTIALS_DIRECTORY is not set"), "{refusal}");
    let directory = world.path("").display().to_string();
    let world = world.with("CREDENTIALS_DIRECTORY", &directory);
    let refusal = world.refusal("web-ipc --serve");
    assert!(refusal.contains("web-ipc.toml:2: serve.usersDb: "), "{refusal}");
    let url = "postgres://ipc:s3cret@db/ipc";
    fs::write(world.path("db"), url).unwrap();
    fs::set_permissions(world.path("db"), fs::Permissions::from_mode(0o440)).unwrap();
    let users_db = |world: &World| world.parse("web-ipc --serve").unwrap().users_db.unwrap();
    assert_eq!(users_db(&world).as_str(), url);
    let world = world.with("WEB_IPC_SERVE_USERS_DB", "postgres://ipc:other@db/ipc");
    assert!(users_db(&world).contains("other"));
    assert_eq!(
        world.rows("serve"),
        ["serve.usersDb Text(\"postgres://ipc:***@db/ipc\") environment WEB_IPC_SERVE_USERS_DB"]
    );
    let path = world.path("db").display().to_string();
    let world = World::new("", "").with("WEB_IPC_SERVE_USERS_DB_FILE", &path);
    assert_eq!(users_db(&world).as_str(), url);

    for (line, what) in [
        ("[serve]\nusersDb = \"postgres://ipc:s3cret@db/ipc\"\n", "the address has a password"),
        ("[serve]\ninbox = \"nats://ipc:s3cret@db/J\"\n", "the address has a password"),
        ("[send]\npassword = \"s3cret\"\n", "no password stands in this file"),
        ("[send]\npassword = [\"s3cret\"]\n", "write password = { file = \"PATH\" }"),
        ("[users]\npassword = \"s3cret\"\n", "--password says what one run does"),
        ("[send]\npassword = { credential = \"../s3cret\" }\n", "without a directory"),
    ] {
        let faults = World::new("", line).faults();
        assert!(faults.len() == 1 && faults[0].contains(what), "{line}: {faults:?}");
        assert!(!faults[0].contains("s3cret"), "{faults:?}");
    }
}

#[test]
fn each_fault_is_told_with_its_file_line_and_key_and_what_it_takes() {
    let world = World::new(
        "port = 1\n[serv]\n[send]\nbatch = 5000\n",
        "home = \"/x\"\n[serve]\nprot = 1\nport = \"1\"\nbody = 1\nprotocol = \"ftp\"\nexec = 1\n\
         jobs = 0\nlogLevel = \"info\"\nlog-level = \"info\"\ncolour = 1\ninbox = \"redis://a/b\"\n\
         [certs]\nforce = true\n[dead]\ninbox = \"x\"\n",
    )
    .with("WEB_IPC_SERVE_PROT", "1")
    .with("WEB_IPC_SERVE_BODY", "yes")
    .with("WEB_IPC_SERVE_DRAIN", "soon");
    let faults = world.faults();
    let expected = [
        "system.toml:1: port: it stands in no table; write it below the command that it is for, as [serve]",
        "system.toml:2: there is no table [serv]; the nearest is [serve]",
        "system.toml:4: send.batch: it takes a whole number from 1 to 1000",
        "home/web-ipc.toml:1: home: a home cannot name another; only the file of the host names one, /etc/web-ipc/config.toml",
        "home/web-ipc.toml:3: serve.prot: there is no such key; the nearest is serve.port",
        "home/web-ipc.toml:4: serve.port: it takes a whole number, without quotes",
        "home/web-ipc.toml:5: serve.body: it takes true or false",
        "home/web-ipc.toml:6: serve.protocol: it takes one of https, http",
        "home/web-ipc.toml:7: serve.exec: it takes a text in quotes",
        "home/web-ipc.toml:8: serve.jobs: it takes a whole number from 1 to 65535",
        "home/web-ipc.toml:10: serve.log-level: it is set twice in this file",
        "home/web-ipc.toml:11: serve.colour: there is no such key; web-ipc --config --show serve lists all",
        "home/web-ipc.toml:12: serve.inbox: it is neither a kind nor nats://HOST:PORT/NAME",
        "home/web-ipc.toml:14: certs.force: --force says what one run does, and is given on the command line alone",
        "home/web-ipc.toml:16: dead.inbox: it takes one of durable, nats://HOST:PORT/NAME",
        "environment WEB_IPC_SERVE_PROT: there is no such variable; the nearest is WEB_IPC_SERVE_PORT",
        "environment WEB_IPC_SERVE_BODY: it takes true or false",
        "environment WEB_IPC_SERVE_DRAIN: serve.drain: it takes a whole number from 0 to 65535",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn a_fault_keeps_the_commands_from_running_that_it_concerns() {
    let world = World::new("", "[serve]\nprot = 1\n");
    assert_eq!(
        world.refusal("web-ipc --serve"),
        "error: home/web-ipc.toml:2: serve.prot: there is no such key; the nearest is serve.port\n\n  \
         tip: web-ipc --config --check lists every fault\n"
    );
    world.send("web-ipc --send {}");
    for line in ["web-ipc --serve --help", "web-ipc --version"] {
        assert!(matches!(world.parse(line).unwrap().action, Action::Help(_)), "{line}");
    }
    let world = World::new("", "[serve]\nport 1\n");
    let refusal = world.refusal("web-ipc --send {}");
    assert!(refusal.starts_with("error: home/web-ipc.toml:2: this is no TOML: "), "{refusal}");
    let world = World::new("", "").with("WEB_IPC_CONFIG", "/nowhere/config.toml");
    let refusal = world.refusal("web-ipc --send {}");
    assert!(refusal.starts_with("error: /nowhere/config.toml: "), "{refusal}");
}

#[test]
fn a_file_that_others_may_change_or_that_is_too_large_is_refused() {
    let world = World::new("", "[serve]\nport = 1\n");
    let file = world.path("home/web-ipc.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let refusal = world.refusal("web-ipc --serve");
    assert!(
        refusal.contains("can be changed by other users (mode 0666); run chmod go-w"),
        "{refusal}"
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "#".repeat(65 * 1024)).unwrap();
    assert!(world.refusal("web-ipc --serve").contains("65536"), "too large");
    fs::write(&file, b"\xff").unwrap();
    assert!(world.refusal("web-ipc --serve").contains("it is not UTF-8"));
}

#[test]
fn the_home_may_be_named_by_the_file_of_the_host_and_variables_of_exec_are_no_configuration() {
    let world = World::new("", "").with("WEB_IPC_HOME", "");
    let named = world.path("home");
    let text = format!("home = \"{}\"\n", named.display());
    fs::write(world.path("system.toml"), text).unwrap();
    fs::write(world.path("home/web-ipc.toml"), "[send]\nbatch = 7\n").unwrap();
    assert_eq!(world.parse("web-ipc --send {}").unwrap().home, Some(named));
    assert_eq!(world.send("web-ipc --send {}").batch, 7);
    let other = world.path("other");
    let line = format!("web-ipc --home {} --send {{}}", other.display());
    assert_eq!(world.parse(&line).unwrap().home, Some(other));
    assert_eq!(world.send(&line).batch, 500);
    let mut world = World::new("", "");
    for name in ["USER", "ID", "TRY", "PEER", "REDELIVERED", "REQUEST", "CODE"] {
        world = world.with(&format!("WEB_IPC_{name}"), "1");
    }
    assert_eq!(world.send("web-ipc --send {}").target.user, None);
    assert_eq!(world.faults(), [""; 0]);
}

#[test]
fn what_counts_is_compared_by_option_and_shows_no_value() {
    let world = World::new("", "[serve]\nlogLevel = \"error\"\nport = 5\n");
    let settings = |line: &str| world.parse(line).unwrap().settings;
    let one = settings("web-ipc --serve");
    assert_eq!(one.changed(&settings("web-ipc --serve --port 5")), [""; 0]);
    assert_eq!(
        one.changed(&settings("web-ipc --serve --port 6 --logLevel info --exec x")),
        ["exec", "logLevel", "port"]
    );
    let shown = format!("{:?}", settings("web-ipc --serve --exec s3cret"));
    assert!(shown.contains("exec") && !shown.contains("s3cret"), "{shown}");
}
