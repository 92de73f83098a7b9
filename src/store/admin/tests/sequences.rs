//! Random sequences of commands against a model of who can open what.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::attributes::Access;
use super::super::{Command, Folders, Request, Task, Verb};
use super::*;

const FOLDERS: [&str; 3] = ["INBOX", "Work", "Home"];

/// What must hold. Secrets are known by their texts.
#[derive(Default)]
struct Model {
    /// The secrets that open each user key.
    user_keys: BTreeMap<KeyId, BTreeSet<String>>,
    /// The user key that each folder key is under.
    folder_keys: BTreeMap<KeyId, KeyId>,
    locked: BTreeSet<KeyId>,
    active: Option<KeyId>,
    password: String,
    /// The password before the last change, while that can be undone.
    before: Option<(String, BTreeSet<KeyId>)>,
    /// The slots' secrets by name, and the user keys whose owner has sealed them.
    slots: BTreeMap<String, (String, bool, BTreeSet<KeyId>)>,
    ever: BTreeSet<String>,
}

struct Run {
    dict: SharedDict,
    model: Model,
    random: u64,
    made: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Run {
            dict: SharedDict::default(),
            model: Model::default(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            made: 0,
        };
        run.model.password = run.new_secret("password");
        run
    }

    fn pick(&mut self, count: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as usize % count
    }

    fn new_secret(&mut self, kind: &str) -> String {
        self.made += 1;
        let secret = format!("{kind}-{:03}", self.made);
        self.model.ever.insert(secret.clone());
        secret
    }

    fn session(&self, password: &str) -> User {
        let settings = [
            ("mail_crypt_private_password", password),
            ("mail_crypt_password_rounds", "1"),
        ];
        User::again(&self.dict, &settings)
    }

    /// Runs a command in a session that has `password`. Answers what it printed.
    fn run(&mut self, password: &str, request: Request) -> Result<Vec<String>> {
        let mut user = self.session(password);
        let mut command = Command::new(request);
        let (mut failed, mut result) = (false, Ok(()));
        while let Some(step) = command.next_step(failed) {
            let places: &[(Level, &str)] = match step.folders {
                Folders::UserKeys => &[(Level::User, "INBOX")],
                _ => &FOLDERS.map(|name| (Level::Folder, name)),
            };
            failed = false;
            for (level, name) in places {
                let mut at = user.folder(name);
                if step.task == Task::CheckMails {
                    continue;
                }
                let done = command.perform(&mut user.ring, *level, &mut at, &mut user.session);
                failed |= done.is_err();
                result = result.and(done);
            }
        }
        let mut shown = Vec::new();
        while let Some(row) = command.next_row() {
            shown.extend(row.cells.first().map(|cell| cell.to_string()));
        }
        result.map(|()| shown)
    }

    /// The same, perhaps after a first try that the dict has interrupted.
    fn insist(&mut self, password: &str, request: impl Fn() -> Request) -> Result<Vec<String>> {
        if self.pick(3) == 0 {
            let left = self.pick(9);
            self.dict.borrow_mut().commits_left = Some(left);
            let done = self.run(password, request());
            self.dict.borrow_mut().commits_left = None;
            if done.is_ok() {
                return done;
            }
        }
        self.run(password, request())
    }

    /// What a session with this secret opens of all folder keys.
    fn opened(&self, secret: &str) -> BTreeSet<KeyId> {
        let mut user = self.session(secret);
        let ids: Vec<KeyId> = self.model.folder_keys.keys().copied().collect();
        let opens = |id: &KeyId| {
            FOLDERS.iter().any(|name| {
                let mut folder = user.folder(name);
                let key = user
                    .ring
                    .private_key(&[*id], &mut folder, &mut user.session);
                key.is_ok()
            })
        };
        ids.into_iter().filter(opens).collect()
    }

    fn check(&self, after: &str) {
        for secret in &self.model.ever {
            let opens = |user_key: &KeyId| {
                let secrets = self.model.user_keys.get(user_key);
                secrets.is_some_and(|secrets| secrets.contains(secret))
            };
            let keys = self.model.folder_keys.iter();
            let expected: BTreeSet<KeyId> = keys
                .filter(|(_, by)| opens(by))
                .map(|(id, _)| *id)
                .collect();
            assert_eq!(self.opened(secret), expected, "{secret} after {after}");
        }
    }

    fn active_key(&self) -> KeyId {
        let mut inbox = Mailbox::new(&self.dict, "INBOX");
        filing::active(Level::User, &mut inbox).unwrap().unwrap().id
    }

    /// Takes note of new folder keys, which are under the active user key.
    fn note_folder_keys(&mut self) {
        let active = self.active_key();
        for name in FOLDERS {
            let mut folder = Mailbox::new(&self.dict, name);
            assert_eq!(folder.access, Access::Own);
            for id in filing::listed(Level::Folder, &mut folder).unwrap() {
                self.model.folder_keys.entry(id).or_insert(active);
            }
        }
    }

    fn unlocked(&self) -> BTreeSet<KeyId> {
        let keys = self.model.user_keys.keys().copied();
        keys.filter(|id| !self.model.locked.contains(id)).collect()
    }

    fn set_password(&mut self, new: String, keys: &BTreeSet<KeyId>) {
        let old = std::mem::replace(&mut self.model.password, new.clone());
        for id in keys {
            let secrets = self.model.user_keys.get_mut(id).unwrap();
            secrets.remove(&old);
            secrets.insert(new.clone());
        }
        self.model.before = Some((old, keys.clone()));
    }

    fn step(&mut self) -> &'static str {
        let password = self.model.password.clone();
        match self.pick(12) {
            0 => self.deliver(&password),
            1 => self.change_password(&password),
            2 => self.undo(),
            3 | 4 => self.add_slot(&password),
            5 => self.remove_slot(&password),
            6 => self.reset(),
            7 | 8 => self.rotate(&password),
            9 => self.abandon(),
            10 => self.reopen(),
            _ => self.lose_guid(),
        }
    }

    fn deliver(&mut self, password: &str) -> &'static str {
        let name = FOLDERS[self.pick(FOLDERS.len())];
        self.session(password).folder_key(name, true).unwrap();
        if self.model.active.is_none() {
            let first = BTreeSet::from([password.to_owned()]);
            self.model.user_keys.insert(self.active_key(), first);
            self.model.active = Some(self.active_key());
        }
        self.note_folder_keys();
        "a new folder key"
    }

    fn change_password(&mut self, password: &str) -> &'static str {
        let new = self.new_secret("password");
        let secret = |text: &str| Some(text.bytes().collect::<Secret>());
        let keys = self.unlocked();
        let request = || Request {
            verb: Some(Verb::Password),
            old: secret(password),
            new: secret(&new),
            ..Request::default()
        };
        self.insist("none", request).unwrap();
        self.set_password(new.clone(), &keys);
        "another password"
    }

    fn undo(&mut self) -> &'static str {
        let request = Request {
            verb: Some(Verb::Password),
            undo: true,
            ..Request::default()
        };
        let done = self.run("none", request);
        match self.model.before.take() {
            Some((old, keys)) => {
                done.unwrap();
                self.set_password(old, &keys);
                self.model.before = None;
            }
            None => assert!(done.is_err()),
        }
        "undo"
    }

    fn add_slot(&mut self, password: &str) -> &'static str {
        let name = format!("slot-{}", self.made);
        let second = self.new_secret("second-password");
        let slot_type = ["recovery", "app", "password"][self.pick(3)];
        let mut input = format!("{password}\n");
        if slot_type == "password" {
            input.push_str(&format!("{second}\n"));
        }
        let request = Request {
            verb: Some(Verb::SlotAdd),
            slot_type: slot_type.to_owned(),
            slot: name.clone(),
            input: input.bytes().collect(),
            ..Request::default()
        };
        let keys = self.unlocked();
        let shown = self.run("none", request).unwrap();
        let secret = shown.first().cloned().unwrap_or(second);
        self.model.ever.insert(secret.clone());
        for id in &keys {
            let secrets = self.model.user_keys.get_mut(id).unwrap();
            secrets.insert(secret.clone());
        }
        let is_code = slot_type == "recovery";
        self.model.slots.insert(name, (secret, is_code, keys));
        "another slot"
    }

    fn some_slot(&mut self) -> Option<String> {
        let names: Vec<String> = self.model.slots.keys().cloned().collect();
        let number = self.pick(names.len().max(1));
        names.get(number).cloned()
    }

    fn remove_slot(&mut self, password: &str) -> &'static str {
        let Some(name) = self.some_slot() else {
            return "nothing";
        };
        let request = Request {
            verb: Some(Verb::SlotRemove),
            slot: name.clone(),
            ..Request::default()
        };
        self.run(password, request).unwrap();
        let (secret, ..) = self.model.slots.remove(&name).unwrap();
        for secrets in self.model.user_keys.values_mut() {
            secrets.remove(&secret);
        }
        "one slot less"
    }

    fn reset(&mut self) -> &'static str {
        let Some(name) = self.some_slot() else {
            return "nothing";
        };
        let (secret, is_code, _) = self.model.slots[&name].clone();
        let keys = self.unlocked();
        let opens_all = keys
            .iter()
            .all(|id| self.model.user_keys[id].contains(&secret));
        let new = self.new_secret("password");
        let request = Request {
            verb: Some(Verb::Reset),
            input: format!("{secret}\n{new}\n").bytes().collect(),
            ..Request::default()
        };
        let done = self.run("forgotten", request);
        if !opens_all {
            assert!(done.is_err());
            return "a reset that is refused";
        }
        let shown = done.unwrap();
        self.set_password(new, &keys);
        if is_code {
            let code = shown[0].clone();
            self.model.ever.insert(code.clone());
            for (id, secrets) in &mut self.model.user_keys {
                secrets.remove(&secret);
                if keys.contains(id) {
                    secrets.insert(code.clone());
                }
            }
            self.model.slots.insert(name, (code, true, keys));
        }
        "a reset"
    }

    fn rotate(&mut self, password: &str) -> &'static str {
        if self.model.active.is_none() {
            return "nothing";
        }
        let before = self.unlocked();
        let input: Secret = format!("{password}\n").bytes().collect();
        let folders = self.pick(2) == 0;
        let request = || Request {
            verb: Some(Verb::Rotate),
            folders,
            input: input.clone(),
            ..Request::default()
        };
        self.insist("none", request).unwrap();
        self.model.before = None;
        self.adopt_new_keys(password, &before);
        "a rotation"
    }

    /// User keys that were made: those of interrupted tries as well.
    fn adopt_new_keys(&mut self, password: &str, before: &BTreeSet<KeyId>) {
        let mut inbox = Mailbox::new(&self.dict, "INBOX");
        let active = self.active_key();
        for id in filing::listed(Level::User, &mut inbox).unwrap() {
            if self.model.user_keys.contains_key(&id) {
                continue;
            }
            let mut secrets = BTreeSet::from([password.to_owned()]);
            for (secret, _, sealed) in self.model.slots.values_mut() {
                if before.is_subset(sealed) {
                    secrets.insert(secret.clone());
                    sealed.insert(id);
                }
            }
            self.model.user_keys.insert(id, secrets);
        }
        self.model.active = Some(active);
        // Those that open are under the new key, the others stay.
        let model = &mut self.model;
        for by in model.folder_keys.values_mut() {
            if !model.locked.contains(by) {
                *by = active;
            }
        }
        self.note_folder_keys();
    }

    fn abandon(&mut self) -> &'static str {
        if self.model.active.is_none() {
            return "nothing";
        }
        let new = self.new_secret("password");
        let input: Secret = format!("{new}\n").bytes().collect();
        let request = || Request {
            verb: Some(Verb::Reset),
            abandon: true,
            input: input.clone(),
            ..Request::default()
        };
        self.insist("forgotten", request).unwrap();
        let model = &mut self.model;
        model.locked = model.user_keys.keys().copied().collect();
        model.before = None;
        model.password = new.clone();
        let mut inbox = Mailbox::new(&self.dict, "INBOX");
        for id in filing::listed(Level::User, &mut inbox).unwrap() {
            let secrets = self.model.user_keys.entry(id);
            secrets.or_insert_with(|| BTreeSet::from([new.clone()]));
        }
        self.model.active = Some(self.active_key());
        self.note_folder_keys();
        "giving up"
    }

    fn reopen(&mut self) -> &'static str {
        let known: Vec<String> = self.model.ever.iter().cloned().collect();
        let secret = known[self.pick(known.len())].clone();
        let today = self.model.password.clone();
        let request = || Request {
            verb: Some(Verb::Reopen),
            input: format!("{secret}\n{today}\n").bytes().collect(),
            ..Request::default()
        };
        let done = self.insist("none", request);
        let opens = |id: &&KeyId| self.model.user_keys[id].contains(&secret);
        let opened: BTreeSet<KeyId> = self.model.locked.iter().filter(opens).copied().collect();
        if opened.is_empty() {
            assert!(done.is_err());
            return "nothing that opens";
        }
        done.unwrap();
        for id in &opened {
            self.model.locked.remove(id);
            self.model
                .user_keys
                .get_mut(id)
                .unwrap()
                .insert(today.clone());
        }
        self.model.before = None;
        // Their old password's string is gone.
        self.forget_old_passwords(&opened, &today);
        "reopening"
    }

    fn forget_old_passwords(&mut self, keys: &BTreeSet<KeyId>, today: &str) {
        for id in keys {
            let secrets = self.model.user_keys.get_mut(id).unwrap();
            secrets.retain(|secret| !secret.starts_with("password-") || secret == today);
        }
    }

    fn lose_guid(&mut self) -> &'static str {
        let mut dict = self.dict.borrow_mut();
        dict.entries.retain(|path, _| {
            let user_level = path.contains("/INBOX/") && path.contains("/pvt/server/");
            !user_level
        });
        "INBOX has another GUID"
    }
}

#[test]
fn whatever_is_done_everybody_opens_what_the_model_says() {
    for seed in 1..=40 {
        let mut run = Run::new(seed);
        let mut done = vec![run.deliver(&run.model.password.clone())];
        for _ in 0..20 {
            done.push(run.step());
            run.check(&format!("{done:?} (seed {seed})"));
        }
    }
}
