//! Reads the modules of one target of a crate, and finds which files use items of which others.
//!
//! `circles` and `command_names` come here with the text of the files. A name is followed through
//! `use` and `pub use` to the file that defines it, so that a file which only re-exports it does
//! not count as used. No macro is expanded and no method call is seen: only names in the source
//! count.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::lexer::{self, Kind, Token};

/// The text of each file, by its path with `/` between the parts.
pub(super) type Files<'a> = BTreeMap<&'a str, &'a str>;

/// A use: one file names an item of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    pub(super) from: String,
    pub(super) to: String,
    /// The line of `from`, counted from 1.
    pub(super) line: usize,
    /// The name as written in `from`, such as `crate::a::B`.
    pub(super) name: String,
}

/// The uses between the files of the target with the root file `root`, sorted, each once.
///
/// Without `with_tests`, code that is compiled only for tests is left out: tests may use any file.
pub(super) fn uses(files: &Files<'_>, root: &str, with_tests: bool) -> Vec<Use> {
    let mut tree = Tree { files, with_tests, modules: Vec::new() };
    tree.add_file(root.to_owned(), folder_of(root).to_owned(), None);
    tree.uses()
}

/// A string literal in one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) file: String,
    /// The line on which the string begins, counted from 1.
    pub(super) line: usize,
    /// The text as written between the quotes.
    pub(super) text: String,
}

/// The strings of the target with the root file `root`, those in attributes included, without code
/// that is compiled only for tests. Doc comments do not count, though they become attributes.
pub(super) fn texts(files: &Files<'_>, root: &str) -> Vec<Text> {
    let mut tree = Tree { files, with_tests: false, modules: Vec::new() };
    tree.add_file(root.to_owned(), folder_of(root).to_owned(), None);
    tree.modules.into_iter().flat_map(|module| module.texts).collect()
}

/// A module: a whole file, or a part of a file.
#[derive(Default)]
struct Module {
    file: String,
    /// The folder with the files of its child modules.
    folder: String,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// The names of the module's functions, types and other items.
    items: BTreeSet<String>,
    /// The paths of names that `use` brings into the module.
    imports: BTreeMap<String, Vec<String>>,
    /// The paths of `use path::*`.
    globs: Vec<Vec<String>>,
    /// The paths that the module names, in `use` and in its code.
    named: Vec<Named>,
    /// The strings in the module.
    texts: Vec<Text>,
}

struct Named {
    path: Vec<String>,
    line: usize,
    /// Whether `use` names the path. A path in code adds nothing if its first word comes from a
    /// `use`.
    by_use: bool,
}

/// The target of a path.
#[derive(Clone, Copy)]
enum Found {
    Module(usize),
    /// An item that the file of this module defines, or re-exports from another crate.
    Item(usize),
}

struct Tree<'a> {
    files: &'a Files<'a>,
    with_tests: bool,
    modules: Vec<Module>,
}

impl Tree<'_> {
    /// Reads a file and all files that it declares. Returns `None` if the file does not exist.
    fn add_file(&mut self, file: String, folder: String, parent: Option<usize>) -> Option<usize> {
        let text = *self.files.get(file.as_str())?;
        let tokens = lexer::tokens(text);
        let index = self.add(Module { file, folder, parent, ..Module::default() });
        Reader { tree: self, tokens: &tokens, at: 0 }.module(index);
        Some(index)
    }

    fn add(&mut self, module: Module) -> usize {
        self.modules.push(module);
        self.modules.len() - 1
    }

    /// Reads the file of `mod name;` in `parent`. `path` is the value of `#[path]`.
    fn add_child(&mut self, parent: usize, name: &str, path: Option<&str>) {
        let Module { file, folder, .. } = &self.modules[parent];
        let own = format!("{folder}/{name}");
        let candidates = match path {
            Some(path) => {
                let file = joined(folder_of(file), path);
                vec![(file.clone(), folder_of(&file).to_owned())]
            }
            None => vec![(format!("{own}.rs"), own.clone()), (format!("{own}/mod.rs"), own)],
        };
        let found = candidates
            .into_iter()
            .find_map(|(file, folder)| self.add_file(file, folder, Some(parent)));
        if let Some(child) = found {
            self.modules[parent].children.insert(name.to_owned(), child);
        }
    }

    fn uses(&self) -> Vec<Use> {
        let mut found = BTreeSet::new();
        for (index, module) in self.modules.iter().enumerate() {
            for named in &module.named {
                let Some(target) = self.named_file(index, named) else { continue };
                if target != module.file {
                    found.insert(Use {
                        from: module.file.clone(),
                        to: target.to_owned(),
                        line: named.line,
                        name: named.path.join("::"),
                    });
                }
            }
        }
        found.into_iter().collect()
    }

    /// The file that defines a name, or `None` if it belongs to another crate.
    fn named_file(&self, module: usize, named: &Named) -> Option<&str> {
        let first = named.path.first()?;
        let is_written_out = matches!(first.as_str(), "crate" | "self" | "super");
        if !named.by_use && !is_written_out {
            // In `Type::new`, `Type` comes from a `use`, which was counted already.
            let is_module =
                matches!(self.lookup(module, first, &mut Vec::new()), Some(Found::Module(_)));
            if !is_module {
                return None;
            }
        }
        let (Found::Module(target) | Found::Item(target)) =
            self.resolve(module, &named.path, &mut Vec::new())?;
        Some(&self.modules[target].file)
    }

    /// Follows a path in `module`. Returns `None` if it leads into another crate. `seen` has the
    /// names of the search so far, so that names defined by each other do not recurse without end.
    fn resolve(
        &self,
        module: usize,
        path: &[String],
        seen: &mut Vec<(usize, String)>,
    ) -> Option<Found> {
        let mut at = module;
        for (number, name) in path.iter().enumerate() {
            at = match name.as_str() {
                "crate" => 0,
                "self" => at,
                "super" => self.modules[at].parent?,
                name => match self.lookup(at, name, seen) {
                    Some(Found::Module(next)) => next,
                    Some(item) => return Some(item),
                    // An unknown first word may name another crate. An unknown later word was made
                    // by a macro.
                    None => return (number > 0).then_some(Found::Item(at)),
                },
            };
        }
        Some(Found::Module(at))
    }

    /// Looks up `name` in `module`. Returns `None` if the module does not define or import it.
    fn lookup(&self, module: usize, name: &str, seen: &mut Vec<(usize, String)>) -> Option<Found> {
        let key = (module, name.to_owned());
        if seen.contains(&key) {
            return None;
        }
        seen.push(key);
        let found = self.lookup_new(module, name, seen);
        seen.pop();
        found
    }

    fn lookup_new(
        &self,
        module: usize,
        name: &str,
        seen: &mut Vec<(usize, String)>,
    ) -> Option<Found> {
        let Module { children, items, imports, globs, .. } = &self.modules[module];
        if let Some(child) = children.get(name) {
            return Some(Found::Module(*child));
        }
        if items.contains(name) {
            return Some(Found::Item(module));
        }
        if let Some(path) = imports.get(name) {
            return Some(self.resolve(module, path, seen).unwrap_or(Found::Item(module)));
        }
        globs.iter().find_map(|path| match self.resolve(module, path, seen)? {
            Found::Module(of) => self.lookup(of, name, seen),
            Found::Item(_) => None,
        })
    }
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Joins `folder` and `path`, and resolves `.` and `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The attributes before an item that matter here.
#[derive(Default)]
struct Attributes<'a> {
    is_for_tests: bool,
    path: Option<&'a str>,
}

/// Reads the tokens of one file.
struct Reader<'t, 'a, 'f> {
    tree: &'t mut Tree<'f>,
    tokens: &'t [Token<'a>],
    at: usize,
}

impl<'a> Reader<'_, 'a, '_> {
    fn peek(&self, ahead: usize) -> Option<&Token<'a>> {
        self.tokens.get(self.at + ahead)
    }

    fn is_sign(&self, ahead: usize, sign: &str) -> bool {
        self.peek(ahead).is_some_and(|token| token.is_sign(sign))
    }

    fn is_word(&self, ahead: usize, word: &str) -> bool {
        self.peek(ahead).is_some_and(|token| token.is_word(word))
    }

    fn word(&self, ahead: usize) -> Option<&'a str> {
        self.peek(ahead).filter(|token| token.kind == Kind::Word).map(|token| token.text)
    }

    /// Whether the token `ahead` begins a `::`.
    fn is_path_sign(&self, ahead: usize) -> bool {
        self.is_sign(ahead, ":") && self.is_sign(ahead + 1, ":")
    }

    /// Reads a module up to its closing brace, or to the end of the file.
    fn module(&mut self, module: usize) {
        // The number of open brackets. Items of the module are outside all brackets.
        let mut depth = 0_usize;
        let mut attributes = Attributes::default();
        while let Some(&token) = self.peek(0) {
            if token.is_sign("#")
                && (self.is_sign(1, "[") || self.is_sign(1, "!") && self.is_sign(2, "["))
            {
                let is_of_the_file = self.is_sign(1, "!");
                let inside = self.attribute(&mut attributes);
                if !attributes.is_for_tests || self.tree.with_tests {
                    self.note_texts(module, inside);
                }
                if attributes.is_for_tests && !self.tree.with_tests {
                    if is_of_the_file {
                        return;
                    }
                    self.skip_item();
                    attributes = Attributes::default();
                }
                continue;
            }
            match token.text {
                "{" | "(" | "[" if token.kind == Kind::Sign => depth += 1,
                "}" | ")" | "]" if token.kind == Kind::Sign => {
                    if depth == 0 {
                        return;
                    }
                    depth -= 1;
                }
                _ if token.kind == Kind::Word => {
                    self.read_word(module, token, depth == 0, &attributes);
                    if !token.is_word("pub") {
                        attributes = Attributes::default();
                    }
                    continue;
                }
                _ => self.note_texts(module, self.at..self.at + 1),
            }
            self.at += 1;
        }
    }

    /// Records the strings among these tokens.
    fn note_texts(&mut self, module: usize, tokens: Range<usize>) {
        let file = self.tree.modules[module].file.clone();
        let texts = self.tokens[tokens].iter().filter(|token| token.kind == Kind::Text);
        let texts = texts.map(|token| Text {
            file: file.clone(),
            line: token.line,
            text: token.text.to_owned(),
        });
        self.tree.modules[module].texts.extend(texts);
    }

    /// Steps over a word and everything that belongs to it: a child module, a `use`, a path, or the
    /// word alone.
    fn read_word(
        &mut self,
        module: usize,
        token: Token<'a>,
        is_item: bool,
        attributes: &Attributes<'a>,
    ) {
        match token.text {
            "pub" if self.is_sign(1, "(") => {
                // The path in `pub(in crate::a)` is a visibility, not a use.
                self.at += 1;
                self.skip_brackets();
            }
            "mod" if is_item && self.word(1).is_some() => {
                let name = self.word(1).unwrap_or_default();
                let is_inline = self.is_sign(2, "{");
                self.at += 3;
                if is_inline {
                    let here = &self.tree.modules[module];
                    let inner = Module {
                        file: here.file.clone(),
                        folder: format!("{}/{name}", here.folder),
                        parent: Some(module),
                        ..Module::default()
                    };
                    let inner = self.tree.add(inner);
                    self.tree.modules[module].children.insert(name.to_owned(), inner);
                    self.module(inner);
                    self.at += 1;
                } else {
                    self.tree.add_child(module, name, attributes.path);
                }
            }
            "use" if !self.is_sign(1, "<") => {
                self.at += 1;
                self.use_tree(module, is_item, Vec::new());
            }
            "macro_rules" if is_item && self.is_sign(1, "!") => {
                let name = self.word(2).unwrap_or_default().to_owned();
                self.tree.modules[module].items.insert(name);
                self.at += 3;
            }
            "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static"
                if is_item =>
            {
                if let Some(name) = self.word(1).filter(|name| !is_keyword(name)) {
                    self.tree.modules[module].items.insert(name.to_owned());
                    self.at += 1;
                }
                self.at += 1;
            }
            _ => self.path(module),
        }
    }

    /// Steps over a path in code and records it. A single word is not a path.
    fn path(&mut self, module: usize) {
        let line = self.peek(0).map_or(0, |token| token.line);
        // After `::` this is the rest of a path, as in `Vec::<u8>::new`, or a path of another
        // crate.
        let is_whole =
            !matches!(&self.tokens[..self.at], [.., a, b] if a.is_sign(":") && b.is_sign(":"));
        let mut path = vec![self.word(0).unwrap_or_default().to_owned()];
        self.at += 1;
        while self.is_path_sign(0) {
            let Some(next) = self.word(2) else { break };
            path.push(next.to_owned());
            self.at += 3;
        }
        if path.len() > 1 && is_whole {
            self.tree.modules[module].named.push(Named { path, line, by_use: false });
        }
    }

    /// Reads one tree of a `use`, after `prefix`, up to its end: `,`, `}` or `;`.
    fn use_tree(&mut self, module: usize, is_item: bool, prefix: Vec<String>) {
        let line = self.peek(0).map_or(0, |token| token.line);
        let mut path = prefix;
        if self.is_path_sign(0) {
            // `::name` belongs to another crate, even if this crate has that name.
            self.at += 2;
            path.push("::".to_owned());
        }
        loop {
            if self.is_sign(0, "{") {
                self.at += 1;
                while self.peek(0).is_some() && !self.is_sign(0, "}") {
                    self.use_tree(module, is_item, path.clone());
                    if self.is_sign(0, ",") {
                        self.at += 1;
                    } else if !self.is_sign(0, "}") {
                        return;
                    }
                }
                self.at += 1;
                return;
            }
            if self.is_sign(0, "*") {
                self.at += 1;
                let here = &mut self.tree.modules[module];
                if is_item {
                    here.globs.push(path.clone());
                }
                here.named.push(Named { path, line, by_use: true });
                return;
            }
            let Some(word) = self.word(0) else { return };
            self.at += 1;
            // `a::{self}` means `a`.
            if word != "self" || path.is_empty() {
                path.push(word.to_owned());
            }
            if self.is_path_sign(0) {
                self.at += 2;
                continue;
            }
            let mut name = path.last().cloned().unwrap_or_default();
            if self.is_word(0, "as") {
                name = self.word(1).unwrap_or_default().to_owned();
                self.at += 2;
            }
            let here = &mut self.tree.modules[module];
            if is_item && name != "_" {
                here.imports.insert(name, path.clone());
            }
            here.named.push(Named { path, line, by_use: true });
            return;
        }
    }

    /// Reads `#[…]` or `#![…]`. Returns the range of the tokens within.
    fn attribute(&mut self, attributes: &mut Attributes<'a>) -> Range<usize> {
        self.at += if self.is_sign(1, "!") { 2 } else { 1 };
        let begin = self.at + 1;
        self.skip_brackets();
        let range = begin..self.at.saturating_sub(1).max(begin);
        let inside = &self.tokens[range.clone()];
        attributes.is_for_tests |= is_for_tests(inside);
        if let [name, equals, path, ..] = inside
            && name.is_word("path")
            && equals.is_sign("=")
        {
            attributes.path = Some(path.text);
        }
        range
    }

    /// Steps over the brackets that open here, and their content.
    fn skip_brackets(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.peek(0) {
            if token.kind == Kind::Sign {
                match token.text {
                    "{" | "(" | "[" => depth += 1,
                    "}" | ")" | "]" => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// Steps over the element after an attribute: an item, a field, a variant, an arm or a
    /// statement.
    fn skip_item(&mut self) {
        while self.is_sign(0, "#") {
            self.at += 1;
            self.skip_brackets();
        }
        if self.is_word(0, "pub") {
            self.at += 1;
            if self.is_sign(0, "(") {
                self.skip_brackets();
            }
        }
        // The `,` in `fn a<B, C>` does not end the item.
        let is_item = self.word(0).is_some_and(is_keyword);
        while let Some(token) = self.peek(0) {
            match token.text {
                _ if token.kind != Kind::Sign => self.at += 1,
                "{" if !self.is_after_use() => return self.skip_brackets(),
                "{" | "(" | "[" => self.skip_brackets(),
                "}" | ")" | "]" => return,
                ";" => return self.at += 1,
                "," if !is_item => return self.at += 1,
                _ => self.at += 1,
            }
        }
    }

    /// Whether the brace that opens here belongs to `use a::{…};`, after which a `;` follows.
    fn is_after_use(&self) -> bool {
        self.at.checked_sub(1).is_some_and(|at| self.tokens[at].is_sign(":"))
    }
}

/// Whether an attribute with these tokens compiles its item only for tests: `test`, `cfg(test)`,
/// `cfg(all(test, …))`.
fn is_for_tests(attribute: &[Token<'_>]) -> bool {
    let without_strings = attribute.iter().filter(|token| token.kind != Kind::Text);
    let texts: Vec<&str> = without_strings.map(|token| token.text).collect();
    match texts.as_slice() {
        ["test"] | ["cfg", "(", "test", ")"] => true,
        ["cfg", "(", "all", "(", all @ .., ")", ")"] => {
            let mut depth = 0;
            all.iter().any(|text| {
                match *text {
                    "(" => depth += 1,
                    ")" => depth -= 1,
                    _ => {}
                }
                *text == "test" && depth == 0
            })
        }
        _ => false,
    }
}

/// Whether this word is a keyword, which begins an item or cannot be a name.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "async"
            | "const"
            | "enum"
            | "extern"
            | "fn"
            | "impl"
            | "let"
            | "macro_rules"
            | "mod"
            | "mut"
            | "static"
            | "struct"
            | "trait"
            | "type"
            | "union"
            | "unsafe"
            | "use"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The uses between the files, as `from:line to name`.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        found_in(files, "src/lib.rs", false)
    }

    fn found_in(files: &[(&str, &str)], root: &str, with_tests: bool) -> Vec<String> {
        let short = |path: &str| path.trim_start_matches("src/").trim_end_matches(".rs").to_owned();
        uses(&files.iter().copied().collect(), root, with_tests)
            .iter()
            .map(|Use { from, to, line, name }| {
                format!("{}:{line} {} {name}", short(from), short(to))
            })
            .collect()
    }

    #[test]
    fn declaring_a_module_is_no_use_of_it_and_naming_it_is_one() {
        let a = ("src/a.rs", "pub fn f() {}");
        assert!(found(&[("src/lib.rs", "mod a;"), a]).is_empty());
        assert_eq!(found(&[("src/lib.rs", "mod a;\nuse a::f;"), a]), ["lib:2 a a::f"]);
        assert_eq!(
            found(&[("src/lib.rs", "mod a;\npub(crate) use self::a as b;"), a]),
            ["lib:2 a self::a"]
        );
        assert_eq!(found(&[("src/lib.rs", "mod a;\nfn g() { a::f() }"), a]), ["lib:2 a a::f"]);
    }

    #[test]
    fn every_form_of_use_is_read() {
        let text = "use crate::b::B;
use crate::{b::{self, C as D, inner::{E, F as _}}, c};
pub(super) use super::b::*;
use ::b::X;
use std::b;
fn f() {
    use super::c::G;
}
";
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", text),
            ("src/b.rs", "pub struct B; pub enum C {} pub mod inner;"),
            ("src/b/inner.rs", "pub trait E {} pub trait F {}"),
            ("src/c.rs", "pub const G: u8 = 1;"),
        ];
        assert_eq!(
            found(&files),
            [
                "a:1 b crate::b::B",
                "a:2 b crate::b",
                "a:2 b crate::b::C",
                "a:3 b super::b",
                "a:2 b/inner crate::b::inner::E",
                "a:2 b/inner crate::b::inner::F",
                "a:2 c crate::c",
                "a:7 c super::c::G",
            ]
        );
    }

    #[test]
    fn a_name_is_followed_to_the_file_that_defines_it() {
        let files = [
            (
                "src/lib.rs",
                "mod a; mod b; mod c; pub use b::{B, Other as Renamed}; pub struct Here;",
            ),
            (
                "src/a.rs",
                "use crate::{B, Here, Renamed};\nuse crate::b::C;\nuse crate::b::Made;\nuse crate::b::D;",
            ),
            (
                "src/b.rs",
                "pub struct B; pub struct Other; pub use crate::c::C; pub use super::c::*; make!(Made);",
            ),
            ("src/c.rs", "pub struct C; pub fn D() {}"),
        ];
        assert_eq!(
            found(&files),
            [
                "a:1 b crate::B",
                "a:1 b crate::Renamed",
                "a:3 b crate::b::Made",
                "a:2 c crate::b::C",
                "a:4 c crate::b::D",
                "a:1 lib crate::Here",
                "b:1 c crate::c::C",
                "b:1 c super::c",
                "lib:1 b b::B",
                "lib:1 b b::Other",
            ]
        );
    }

    #[test]
    fn what_another_crate_gave_belongs_to_the_file_that_passes_it_on() {
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            (
                "src/a.rs",
                "use super::b::Value; use log::info; fn f() { log::info!(); serde_json::to_string() }",
            ),
            ("src/b.rs", "pub use serde_json::Value;"),
        ];
        assert_eq!(found(&files), ["a:1 b super::b::Value"]);
    }

    #[test]
    fn a_path_in_code_counts_like_a_use() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", "use super::c;\nfn f(x: super::b::B) -> u8 { 0..crate::b::N;\nc::g() }"),
            ("src/b.rs", "pub struct B; pub const N: u8 = 1;"),
            ("src/c.rs", "pub(in crate::a) fn g() { Vec::<u8>::b::new(); x.a::<u8>() }"),
        ];
        assert_eq!(
            found(&files),
            ["a:2 b crate::b::N", "a:2 b super::b::B", "a:1 c super::c", "a:3 c c::g",]
        );
    }

    #[test]
    fn what_use_has_brought_is_not_told_again_where_it_stands() {
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use super::b::B;\nfn f() { B::new(); }"),
            ("src/b.rs", "pub struct B;"),
        ];
        assert_eq!(found(&files), ["a:1 b super::b::B"]);
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "//! use crate::b::B;\n/* use crate::b::B; */ const T: &str = \"use crate::b::B;\"; \
                    const R: &str = r#\"\" use crate::b::B; \"#;";
        let files =
            [("src/lib.rs", "mod a; mod b;"), ("src/a.rs", text), ("src/b.rs", "pub struct B;")];
        assert!(found(&files).is_empty());
    }

    #[test]
    fn what_is_for_tests_alone_is_left_out_of_a_library() {
        let text = "#[cfg(test)]
use crate::b::{B, C};
#[cfg(all(test, unix))]
pub(crate) fn f<X, Y>(b: crate::b::B) -> [u8; 2] { crate::b::g() }
struct S { #[cfg(test)] x: crate::b::B, y: u8 }
fn h() { match 1 { #[cfg(test)] 1 => crate::b::g(), _ => {} } }
#[test]
fn i() { crate::b::g() }
#[cfg(test)]
mod fixture;
#[cfg(not(test))]
use crate::b::Last;
#[cfg(feature = \"test\")]
use crate::b::B as Other;
#[cfg(test)]
mod tests { use super::*; use crate::b::B; }
";
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", text),
            ("src/a/fixture.rs", "use crate::b::B;"),
            ("src/b.rs", "pub struct B; pub struct C; pub fn g() {} pub struct Last;"),
        ];
        assert_eq!(found(&files), ["a:12 b crate::b::Last", "a:14 b crate::b::B"]);
        assert!(found_in(&files, "src/lib.rs", true).len() > 2);
    }

    #[test]
    fn modules_are_found_where_the_compiler_finds_them() {
        let files = [
            (
                "src/lib.rs",
                "mod a; mod b; mod inline { mod c; } #[path = \"other/d.rs\"] mod d; struct T;",
            ),
            ("src/a/mod.rs", "mod e;"),
            ("src/a/e.rs", "use crate::T;"),
            ("src/b.rs", "mod e;"),
            ("src/b/e.rs", "use super::super::T;"),
            ("src/inline/c.rs", "use super::super::T;"),
            ("src/other/d.rs", "mod f; use crate::inline::c;"),
            ("src/other/f.rs", "use crate::T;"),
            ("src/nobodys.rs", "use crate::T;"),
        ];
        assert_eq!(
            found(&files),
            [
                "a/e:1 lib crate::T",
                "b/e:1 lib super::super::T",
                "inline/c:1 lib super::super::T",
                "other/d:1 inline/c crate::inline::c",
                "other/f:1 lib crate::T",
            ]
        );
    }

    #[test]
    fn names_that_are_defined_by_each_other_come_to_an_end() {
        let files = [
            ("src/lib.rs", "mod a; mod b; use a::*; use b::*; use X::Y;"),
            ("src/a.rs", "pub use super::b::*; pub use super::b::X;"),
            ("src/b.rs", "pub use super::a::*; pub use super::a::X; use Z::Z;"),
        ];
        assert!(!found(&files).is_empty());
    }
}
