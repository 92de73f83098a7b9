//! One folder: its keys, its mails, and what lies in the clear beside them.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};

use super::counts::{Counts, What};
use super::keys::{OPEN_ADVICE, Opens, Protections, StoredFolderKey, under};
use super::line::{Level, Line, many};
use super::mail::Mail;
use super::{Check, MailInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyId;
use crate::store::admin::list;
use crate::store::attributes::{self, Attributes, Host};
use crate::store::keyring::Keyring;
use crate::store::settings::SaveVersion;
use crate::store::state::{Current, State};

/// Where keys come from: the user's, the folder's and the session's.
pub(super) type From<'a> = (&'a mut Keyring, &'a mut dyn Attributes, &'a mut dyn Host);

/// What is known of keys already.
pub(super) type Known<'a> = (&'a Protections, &'a [StoredFolderKey]);

/// A folder that is being looked at.
pub(super) struct Folder {
    name: String,
    current: Current,
    /// Mails and their bytes.
    states: Vec<(What, u64, u64)>,
    /// By the ids in headers: whether they open, and how many mails name them.
    keys: BTreeMap<KeyId, (Opens, u64)>,
    mail: Option<Mail>,
    /// The mail's key doesn't open, for this reason.
    why: Option<Opens>,
    /// Fields of the index cache that show what is in mails, and of how many mails they do.
    cached: Vec<String>,
    cached_mails: u64,
    plain_attachments: u64,
}

impl Folder {
    /// Looks at the folder's keys.
    ///
    /// # Errors
    /// [`ErrorKind::Store`], [`ErrorKind::Setting`].
    pub(super) fn begin(
        check: &mut Check,
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Self> {
        let name = folder.mailbox();
        for entry in list(attributes::Level::Folder, folder)? {
            let Ok(id) = entry.name.parse::<KeyId>() else {
                continue;
            };
            for by in under(folder, &id)? {
                *check.under.entry(by).or_default() += 1;
            }
            let about = (id, name.clone(), entry.active);
            let key = StoredFolderKey::read(about, &check.protections, ring, folder, host)?;
            check.stored.push(key);
        }
        let current = match Current::of(ring, folder, host) {
            Err(e) if e.kind() == ErrorKind::Keyless => {
                let advice =
                    format!("Make a new one: doveadm mailbox cryptokey generate -f '{name}'");
                check.say(Line::new(
                    Level::Problem,
                    "folder",
                    &name,
                    e.to_log(),
                    advice,
                ));
                Current::without_key(ring)?
            }
            current => current?,
        };
        Ok(Folder {
            name,
            current,
            states: Vec::new(),
            keys: BTreeMap::new(),
            mail: None,
            why: None,
            cached: Vec::new(),
            cached_mails: 0,
            plain_attachments: 0,
        })
    }

    pub(super) fn begin_mail(&mut self, info: MailInfo) {
        let MailInfo {
            uid,
            bytes,
            sizes,
            was_encrypted,
        } = info;
        self.why = None;
        self.mail = Some(Mail::new(uid, bytes, sizes, was_encrypted));
    }

    /// As [`Check::feed`].
    pub(super) fn feed(
        &mut self,
        from: From<'_>,
        known: Known<'_>,
        full: bool,
        data: &[u8],
    ) -> Result<bool> {
        let Some(mail) = &mut self.mail else {
            return Err(no_mail());
        };
        if mail.found.is_some() {
            return Ok(!data.is_empty() && mail.verify(data));
        }
        if !mail.look(data, &self.current) {
            return Ok(!data.is_empty());
        }
        let (ring, at, host) = from;
        let ids = match &mail.found {
            Some(found) if found.is_encrypted() => found.keys.clone(),
            _ => return Ok(false),
        };
        let opening = self.open((ring, &mut *at, &mut *host), known, &ids)?;
        let Some(mail) = self.mail.as_mut().filter(|_| full) else {
            return Ok(false);
        };
        let Some(id) = opening else {
            return Ok(false);
        };
        let key = ring.private_key(&[id], at, host)?;
        mail.begin_verifying(&key, &mut ring.memory.secrets);
        Ok(!data.is_empty())
    }

    /// The first of the ids whose key opens. If none does, the reason is kept.
    fn open(
        &mut self,
        (ring, at, host): From<'_>,
        (protections, stored): Known<'_>,
        ids: &[KeyId],
    ) -> Result<Option<KeyId>> {
        for id in ids {
            if !self.keys.contains_key(id) {
                // Asking again would open INBOX, whose index cache Dovecot then writes anew if it is this folder.
                let known = stored
                    .iter()
                    .find(|key| key.mailbox == self.name && key.is(id));
                let opens = match known {
                    Some(key) => key.opens.clone(),
                    None => match ring.private_key(&[*id], at, host) {
                        Ok(_) => Opens::Yes,
                        Err(e) => protections.folder_key(ring, at, host, id, e)?,
                    },
                };
                self.keys.insert(*id, (opens, 0));
            }
            match self.keys.get(id) {
                Some((Opens::Yes, _)) => {
                    self.why = None;
                    return Ok(Some(*id));
                }
                Some((opens, _)) => self.why = Some(opens.clone()),
                None => {}
            }
        }
        Ok(None)
    }

    /// As [`Check::judge_mail`].
    pub(super) fn judge_mail(&mut self, failed: Option<Error>) -> Result<bool> {
        let mail = self.mail.as_mut().ok_or_else(no_mail)?;
        match failed {
            Some(e) => mail.failed(e),
            // An empty file.
            None if mail.found.is_none() => drop(mail.look(&[], &self.current)),
            None => mail.finish(),
        }
        Ok(self.what()?.1 == Level::Problem)
    }

    /// What the mail is, and whether that is a problem.
    fn what(&self) -> Result<(What, Level)> {
        let found = self.mail.as_ref().and_then(|mail| mail.found.as_ref());
        let found = found.ok_or_else(no_mail)?;
        let what = match (found.state, &self.why) {
            _ if self.mail.as_ref().is_some_and(|mail| mail.trees) => {
                return Ok((What::Trees, Level::Note));
            }
            (State::Unreadable, _) => What::Unreadable,
            (State::Twice, _) => What::Twice,
            (State::Plain, _) if self.current.version == SaveVersion::ReadOnly => {
                return Ok((What::Plain, Level::Fact));
            }
            (State::Plain, _) => What::Plain,
            (_, Some(Opens::Locked)) => return Ok((What::Locked, Level::Note)),
            (_, Some(Opens::No(_) | Opens::Missing(_))) => What::Unreadable,
            (State::Active, _) => return Ok((What::Active, Level::Fact)),
            (State::OtherForm, _) => return Ok((What::OtherForm, Level::Fact)),
            (State::OldKey, _) => return Ok((What::OldKey, Level::Fact)),
            (State::Version1, _) => return Ok((What::Version1, Level::Fact)),
        };
        Ok((what, Level::Problem))
    }

    /// As [`Check::end_mail`].
    pub(super) fn end_mail(
        &mut self,
        guid: &str,
        counts: &mut Counts,
        needed: &mut HashSet<KeyId>,
    ) -> Result<Option<Line>> {
        let (what, level) = self.what()?;
        let mail = self.mail.take().ok_or_else(no_mail)?;
        counts.mail(what, mail.bytes);
        match self.states.iter_mut().find(|(other, _, _)| *other == what) {
            Some((_, mails, bytes)) => {
                *mails += 1;
                *bytes += mail.bytes;
            }
            None => self.states.push((what, 1, mail.bytes)),
        }
        let found = mail.found.ok_or_else(no_mail)?;
        for id in &found.keys {
            needed.insert(*id);
            if let Some((_, mails)) = self.keys.get_mut(id) {
                *mails += 1;
            }
        }
        if level != Level::Problem {
            return Ok(None);
        }
        let (reason, advice) = self.reason(what, found.error.as_ref());
        let mut line = Line::new(level, "mail", &self.name, reason, advice);
        (line.uid, line.guid, line.state) = (Some(mail.uid), guid.to_owned(), what.name());
        line.bytes = Some(mail.bytes);
        line.key = found.keys.first().copied();
        Ok(Some(line))
    }

    fn reason(&self, what: What, error: Option<&Error>) -> (String, String) {
        let error_text = || error.map_or_else(String::new, Error::to_log);
        match (what, &self.why) {
            (What::Plain, _) => (
                "not encrypted".to_owned(),
                format!(
                    "doveadm mailbox crypt convert '{}' encrypts it, if it is what the user got",
                    self.name
                ),
            ),
            (What::Twice, _) => ("encrypted twice".to_owned(), TWICE_ADVICE.to_owned()),
            (_, Some(opens)) if error.is_none() => (opens.words(), OPEN_ADVICE.to_owned()),
            _ => (error_text(), DAMAGED_ADVICE.to_owned()),
        }
    }

    /// As [`Check::cached`].
    pub(super) fn cached(&mut self, field: &str, mails: u64) {
        if mails > 0 && shows_mail(field) {
            self.cached.push(field.to_owned());
            self.cached_mails = self.cached_mails.max(mails);
        }
    }

    /// As [`Check::attachment`].
    pub(super) fn attachment(&mut self, encrypted: bool) {
        self.plain_attachments += u64::from(!encrypted);
    }

    /// What is to say about the folder, of whose keys `stored` are some.
    pub(super) fn end(self, stored: &[StoredFolderKey]) -> Vec<Line> {
        let mut lines = Vec::new();
        let writes = self.current.version != SaveVersion::ReadOnly;
        for what in What::ALL {
            let counted = self.states.iter().find(|(other, _, _)| *other == what);
            let Some((_, mails, bytes)) = counted else {
                continue;
            };
            let text = format!(
                "{}, {}: {}",
                many(*mails, "mail"),
                many(*bytes, "byte"),
                what.words()
            );
            let (level, advice) = match what {
                What::OtherForm | What::OldKey | What::Version1 if writes => (
                    Level::Note,
                    format!(
                        "doveadm mailbox crypt convert --rekey '{}' brings them up to date",
                        self.name
                    ),
                ),
                What::Locked => (Level::Note, OPEN_ADVICE.to_owned()),
                What::Trees => (Level::Note, TREES_ADVICE.to_owned()),
                _ => (Level::Fact, String::new()),
            };
            let mut line = Line::new(level, "folder", &self.name, text, advice);
            line.state = what.name();
            lines.push(line.about_mails(*mails, Some(*bytes)));
        }
        for (id, (opens, mails)) in &self.keys {
            let own = stored
                .iter()
                .find(|key| key.mailbox == self.name && key.is(id));
            let state = if own.is_some_and(|key| key.active) {
                "active"
            } else {
                "older"
            };
            let text = format!("key {id}, for {}, {}", many(*mails, "mail"), opens.words());
            // Each of the mails is a problem, if there is one.
            let line = Line::new(Level::Fact, "key", &self.name, text, "");
            lines.push(
                line.about_key(*id, state, opens.name())
                    .about_mails(*mails, None),
            );
        }
        lines.extend(self.without_active_key(stored).filter(|_| writes));
        lines.extend(self.in_the_clear());
        lines
    }

    fn without_active_key(&self, stored: &[StoredFolderKey]) -> Option<Line> {
        let has_keys = stored.iter().any(|key| key.mailbox == self.name);
        if self.current.key.is_some() || (self.states.is_empty() && !has_keys) {
            return None;
        }
        let text = "it has no active key: the next mail makes one";
        let advice = format!(
            "doveadm mailbox cryptokey generate '{}' makes it now",
            self.name
        );
        let level = if has_keys {
            Level::Problem
        } else {
            Level::Note
        };
        Some(Line::new(level, "folder", &self.name, text, advice))
    }

    fn in_the_clear(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let is_encrypted = |what: &What| *what != What::Plain;
        if self.cached_mails > 0 && self.states.iter().any(|(what, _, _)| is_encrypted(what)) {
            let text = format!(
                "dovecot.index.cache shows, of up to {}, in the clear: {}",
                many(self.cached_mails, "mail"),
                self.cached.join(" ")
            );
            let advice = "Dovecot keeps there what clients ask for; see mail_cache_fields and mail_never_cache_fields";
            let mut line = Line::new(Level::Note, "clear", &self.name, text, advice);
            line.state = "index-cache";
            lines.push(line.about_mails(self.cached_mails, None));
        }
        if self.plain_attachments > 0 {
            let text = format!(
                "not encrypted, outside of mails: {}",
                many(self.plain_attachments, "attachment")
            );
            let advice = "Put the fs driver crypt before the one that stores them: new ones are encrypted then";
            let mut line = Line::new(Level::Problem, "clear", &self.name, text, advice);
            line.state = "attachments";
            lines.push(line.about_mails(self.plain_attachments, None));
        }
        lines
    }
}

const DAMAGED_ADVICE: &str =
    "Restore it from a backup; where only its beginning is damaged, mail-crypt decrypt gets it";

const TREES_ADVICE: &str = "It is read with the user's trees_* fields, and wasn't verified here";

const TWICE_ADVICE: &str =
    "mail-crypt decrypt --twice gets the mail out of its file; save it anew, and expunge this one";

/// Whether this field of the index cache has a part of the mail in it.
fn shows_mail(field: &str) -> bool {
    const FIELDS: [&str; 4] = [
        "imap.envelope",
        "imap.body",
        "imap.bodystructure",
        "body.snippet",
    ];
    field.starts_with("hdr.") || FIELDS.contains(&field)
}

fn no_mail() -> Error {
    Error::internal("no mail is being checked")
}
