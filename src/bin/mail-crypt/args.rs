//! The command line.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use lexopt::prelude::*;

use crate::secret::PasswordSource;
use crate::{Failure, Result, secret};

const HELP: &str = "\
mail-crypt: encrypted mail and its keys, without a Dovecot

  mail-crypt inspect FILE [--message N] [--json]
                          [--key KEYFILE | --attributes DICTFILE..] [--user NAME] [PASSWORD]
  mail-crypt decrypt FILE (--key KEYFILE | --attributes DICTFILE..) [--user NAME]
                          [--message N] [--raw | --twice] [-o OUT] [PASSWORD]
  mail-crypt decrypt FILE --trees FIELDS [--message N] [--raw] [-o OUT] [PASSWORD]
  mail-crypt slots --attributes DICTFILE.. [--key KEYFILE] [--json] [PASSWORD]
  mail-crypt encrypt [FILE] --to PUBLICKEY [--algorithm NAME] [-o OUT]
  mail-crypt keygen --curve NAME [--format pem|dovecot] [-o OUT] [PASSWORD]
  mail-crypt key show KEYFILE [--json] [PASSWORD]
  mail-crypt key convert KEYFILE --format pem|dovecot [--public] [-o OUT] [PASSWORD]
  mail-crypt doctor [--config FILE | --doveconf FILE [--root DIR]] [--json]

  PASSWORD is --password-stdin (the first line), --password-fd N or --password-prompt.
  It is never an argument. --new-password-fd N protects what `key convert` writes.
  With --attributes a recovery code or an app's secret is taken as the password is, and KEYFILE
  may have the private key of escrow or of another slot.
  FIELDS has the trees_* fields of a user who comes from TREES, one a line.
  FILE is a mail of a Maildir, an sdbox or mdbox file, an attachment; - is standard input
  (decrypt reads it twice, and wants a file).
  doctor looks for mistakes in Dovecot's configuration: what `doveconf -n` says, or has written to
  FILE (--doveconf, - for standard input). It looks at this machine too, or at one below DIR.

Exit status: 0 done, 1 a file can't be read or written, 2 usage, 3 damaged or not what it
should be, 4 tampered with, 5 no key, 6 wrong password, 7 unsupported. doctor: 0 nothing found,
1 something found, 2 usage, 3 the configuration can't be read.
";

/// The options of all commands.
#[derive(Default)]
pub(crate) struct Options {
    /// The file or key that the command is about.
    pub file: Option<PathBuf>,
    /// `--json`
    pub json: bool,
    /// `--raw`: leave compressed plaintext compressed.
    pub raw: bool,
    /// `--twice`: if the plaintext is encrypted too, decrypt that.
    pub twice: bool,
    /// `--public`
    pub public: bool,
    /// `--message`: which mail of a file with several, from 1.
    pub message: Option<usize>,
    /// `--key`
    pub key: Option<PathBuf>,
    /// `--attributes`, possibly several: shared mail needs its owner's dict too.
    pub attributes: Vec<PathBuf>,
    /// `--user`: whose copies of shared keys to look for.
    pub user: Option<String>,
    /// `--trees`: the fields of a user who comes from TREES.
    pub trees: Option<PathBuf>,
    /// `--to`
    pub to: Option<PathBuf>,
    /// `--curve`
    pub curve: Option<String>,
    /// `--algorithm`
    pub algorithm: Option<String>,
    /// `--format`
    pub format: Option<String>,
    /// `-o`
    pub out: Option<PathBuf>,
    /// `--config`: the configuration that doveconf reads.
    pub config: Option<PathBuf>,
    /// `--doveconf`: what doveconf has written.
    pub doveconf: Option<PathBuf>,
    /// `--root`: the machine's files are below this.
    pub root: Option<PathBuf>,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// Where the password for the output comes from.
    pub new_password: PasswordSource,
}

/// The command, of one word or two, and its options. `None` where the command line only asked for help or
/// the version, which has then been printed.
pub(crate) fn parse() -> Result<Option<(String, Options)>> {
    let mut parser = lexopt::Parser::from_env();
    let mut command = match command_word(&mut parser)? {
        CommandWord::Command(word) => word,
        CommandWord::Missing | CommandWord::Help => return help(),
        CommandWord::Version => return version(),
    };
    if command == "key" {
        match command_word(&mut parser)? {
            CommandWord::Command(word) => command = format!("key {word}"),
            CommandWord::Help => return help(),
            CommandWord::Version => return version(),
            CommandWord::Missing => {
                return Err(Failure::Usage(
                    "key needs a command: show or convert".into(),
                ));
            }
        }
    }
    match options(parser)? {
        Some(options) => Ok(Some((command, options))),
        None => help(),
    }
}

fn help() -> Result<Option<(String, Options)>> {
    secret::say(HELP).map(|()| None)
}

fn version() -> Result<Option<(String, Options)>> {
    secret::say(concat!("mail-crypt ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| None)
}

/// What was found in place of a command.
enum CommandWord {
    Command(String),
    Help,
    Version,
    Missing,
}

fn command_word(parser: &mut lexopt::Parser) -> Result<CommandWord> {
    match parser.next()? {
        None => Ok(CommandWord::Missing),
        Some(Short('h') | Long("help")) => Ok(CommandWord::Help),
        Some(Long("version")) => Ok(CommandWord::Version),
        Some(Value(word)) => Ok(CommandWord::Command(word.string()?)),
        Some(other) => Err(other.unexpected().into()),
    }
}

/// `None` if help is asked for.
fn options(mut parser: lexopt::Parser) -> Result<Option<Options>> {
    let mut o = Options::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Long("json") => o.json = true,
            Long("raw") => o.raw = true,
            Long("twice") => o.twice = true,
            Long("public") => o.public = true,
            Long("message") => o.message = Some(parser.value()?.parse()?),
            Long("key") => o.key = Some(parser.value()?.into()),
            Long("attributes") => o.attributes.push(parser.value()?.into()),
            Long("user") => o.user = Some(parser.value()?.string()?),
            Long("trees") => o.trees = Some(parser.value()?.into()),
            Long("to") => o.to = Some(parser.value()?.into()),
            Long("curve") => o.curve = Some(parser.value()?.string()?),
            Long("algorithm") => o.algorithm = Some(parser.value()?.string()?),
            Long("format") => o.format = Some(parser.value()?.string()?),
            Long("config") => o.config = Some(parser.value()?.into()),
            Long("doveconf") => o.doveconf = Some(parser.value()?.into()),
            Long("root") => o.root = Some(parser.value()?.into()),
            Short('o') | Long("output") => o.out = Some(parser.value()?.into()),
            Long("password-stdin") => o.password = PasswordSource::Stdin,
            Long("password-prompt") => o.password = PasswordSource::Prompt,
            Long("password-fd") => o.password = PasswordSource::Fd(parser.value()?.parse()?),
            Long("new-password-fd") => {
                o.new_password = PasswordSource::Fd(parser.value()?.parse()?);
            }
            Value(file) if o.file.is_none() => o.file = Some(file.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(o))
}

impl Options {
    /// The file argument, which must be there.
    pub(crate) fn file(&self) -> Result<&PathBuf> {
        let missing = || Failure::Usage("no FILE given".into());
        self.file.as_ref().ok_or_else(missing)
    }
}

impl From<lexopt::Error> for Failure {
    fn from(e: lexopt::Error) -> Self {
        Failure::Usage(e.to_string())
    }
}
