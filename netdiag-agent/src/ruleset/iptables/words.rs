//! A rule line cut into words, and the words into the options of its matches.

use std::borrow::Cow;

/// The words of a line; quotes group, a backslash within them escapes.
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub fn of(line: &'a str) -> Self {
        Self { rest: line }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find([' ', '"']).unwrap_or(self.rest.len());
        if !self.rest[end..].starts_with('"') {
            let (word, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Some(Cow::Borrowed(word));
        }
        let mut word = String::new();
        let mut quoted = false;
        let mut chars = self.rest.char_indices();
        let mut stop = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => quoted = !quoted,
                '\\' if quoted => word.extend(chars.next().map(|(_, c)| c)),
                ' ' if !quoted => {
                    stop = at;
                    break;
                }
                _ => word.push(c),
            }
        }
        self.rest = &self.rest[stop..];
        Some(Cow::Owned(word))
    }
}

/// `! --dport 80:90`
#[derive(Debug)]
pub struct Opt<'a> {
    pub negate: bool,
    pub name: Cow<'a, str>,
    pub args: Vec<Cow<'a, str>>,
}

impl Opt<'_> {
    /// Its first argument.
    pub fn arg(&self) -> &str {
        self.args.first().map_or("", |arg| arg)
    }

    pub fn text(&self) -> String {
        let mut text = format!("{}{}", if self.negate { "! " } else { "" }, self.name);
        for arg in &self.args {
            text.push(' ');
            text.push_str(arg);
        }
        text
    }
}

/// `-m NAME` with its options; the first block is the rule's own (`-s`, `-p` …) and has no name.
#[derive(Debug, Default)]
pub struct Block<'a> {
    pub name: Cow<'a, str>,
    pub options: Vec<Opt<'a>>,
}

/// A rule in parts.
#[derive(Debug, Default)]
pub struct Parts<'a> {
    pub matches: Vec<Block<'a>>,
    pub target: Option<Jump<'a>>,
}

/// `-j NAME` or `-g NAME` with the target's options.
#[derive(Debug)]
pub struct Jump<'a> {
    pub goto: bool,
    pub name: Cow<'a, str>,
    pub options: Vec<Opt<'a>>,
}

impl Parts<'_> {
    /// All comments of the rule: Calico writes its own mark first and its words second.
    pub fn comment(&self) -> Option<String> {
        let blocks = self.matches.iter().filter(|block| block.name == "comment");
        let comments: Vec<_> = blocks
            .flat_map(|block| &block.options)
            .map(Opt::arg)
            .collect();
        (!comments.is_empty()).then(|| comments.join(" "))
    }
}

pub fn split_rule(words: Words<'_>) -> Parts<'_> {
    let mut parts = Parts {
        matches: vec![Block::default()],
        target: None,
    };
    let mut negate = false;
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        match &*word {
            "!" => {
                negate = true;
                continue;
            }
            "-m" => {
                let name = words.next().unwrap_or_default();
                parts.matches.push(Block {
                    name,
                    options: Vec::new(),
                });
            }
            "-j" | "-g" => {
                let name = words.next().unwrap_or_default();
                parts.target = Some(Jump {
                    goto: word == "-g",
                    name,
                    options: Vec::new(),
                });
            }
            _ => {
                let mut args = Vec::new();
                if &*word == "--comment" {
                    args.extend(words.next());
                }
                while let Some(arg) = words.next_if(|next| !starts_option(next)) {
                    args.push(arg);
                }
                let option = Opt {
                    negate,
                    name: word,
                    args,
                };
                match (&mut parts.target, parts.matches.last_mut()) {
                    (Some(target), _) => target.options.push(option),
                    (None, Some(block))
                        if !option.name.starts_with("--") && !block.name.is_empty() =>
                    {
                        // `-s` behind a `-m` is the rule's own.
                        parts.matches[0].options.push(option);
                    }
                    (None, Some(block)) => block.options.push(option),
                    (None, None) => {}
                }
            }
        }
        negate = false;
    }
    parts
}

fn starts_option(word: &str) -> bool {
    word == "!"
        || (word.starts_with('-')
            && word[1..].starts_with(|c: char| c == '-' || c.is_ascii_alphabetic()))
}
