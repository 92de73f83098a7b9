//! Which keys and folders a command is about, and in which order.
#![forbid(unsafe_code)]

use super::request::{Request, Verb};

/// The folders that a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folders {
    /// None: the user's own keys, on INBOX.
    UserKeys,
    /// The one that was named.
    Named,
    /// Those of the user that the masks match.
    Masks,
    /// All of the user's own.
    Own,
    /// All that the user can see, whoever owns them.
    All,
}

/// What is done in each of the folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Makes sure that a new user key leaves no key behind.
    CheckNewUserKey,
    /// Makes the user's first key, and says nothing of an older one.
    FirstUserKey,
    /// Makes a key.
    Generate,
    /// Puts the folder's keys, or those that no folder has, under the active user key.
    Rekey,
    /// Lists the keys.
    List,
    /// Lists the folder keys that no folder has.
    ListWithoutFolder,
    /// Unlocks the keys.
    Export,
    /// Stores a key.
    Import,
    /// Chooses the key with this number among [`Request::key_ids`], and takes it out of use.
    BeginDeletion(usize),
    /// Makes sure that no key of the folder is under the chosen one.
    CheckFolder,
    /// Makes sure that no mail needs the chosen key.
    CheckMails,
    /// Deletes the chosen key.
    Delete,
    /// Takes the chosen key into use again.
    UndoDeletion,
    /// Finds what is under the user's older keys.
    FindNeeds,
    /// Changes the password of the user's keys.
    Password,
    /// Lists the slots.
    SlotList,
    /// Adds a slot.
    SlotAdd,
    /// Removes a slot.
    SlotRemove,
    /// Says what a secret opens.
    SlotTest,
    /// Puts the user's keys under a new password.
    Reset,
    /// Gives the folder a new key if nothing opens the one that it has.
    Renew,
    /// Puts locked keys under today's password.
    Reopen,
    /// Makes sure that the given password is that of the user's keys.
    CheckRotation,
}

/// One step of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub task: Task,
    /// Where.
    pub folders: Folders,
}

/// A step and how many of the next ones are skipped after it; `None`: all of them.
#[derive(Clone, Copy)]
struct Planned {
    step: Step,
    after_success: Option<usize>,
    after_failure: Option<usize>,
}

/// The steps of a command.
pub(super) struct Plan {
    steps: Vec<Planned>,
    /// How many were begun or skipped.
    done: usize,
}

impl Plan {
    /// The steps that `request` takes.
    pub(super) fn new(request: &Request) -> Self {
        let mut plan = Plan {
            steps: Vec::new(),
            done: 0,
        };
        let keys = if request.user_key {
            Folders::UserKeys
        } else {
            Folders::Masks
        };
        let Some(verb) = request.verb else {
            return plan;
        };
        match verb {
            Verb::Generate => plan.generate(request),
            Verb::List => {
                plan.add(Task::List, keys);
                if request.user_key && request.needed {
                    plan.add(Task::FindNeeds, Folders::All);
                    plan.add(Task::FindNeeds, Folders::UserKeys);
                }
                // Which keys have no folder is known once all folders were listed.
                if !request.user_key && request.all {
                    plan.add(Task::ListWithoutFolder, Folders::UserKeys);
                }
            }
            Verb::Export => plan.add(Task::Export, keys),
            Verb::Import => plan.add(Task::Import, one(request)),
            Verb::Delete => {
                for number in 0..request.key_ids.len() {
                    plan.delete(request, number);
                }
            }
            Verb::Password => plan.add(Task::Password, Folders::UserKeys),
            Verb::SlotList => plan.add(Task::SlotList, Folders::UserKeys),
            Verb::SlotAdd => plan.add(Task::SlotAdd, Folders::UserKeys),
            Verb::SlotRemove => plan.add(Task::SlotRemove, Folders::UserKeys),
            Verb::SlotTest => plan.add(Task::SlotTest, Folders::UserKeys),
            Verb::Reset => {
                plan.add_essential(Task::Reset, Folders::UserKeys);
                if request.abandon {
                    plan.add(Task::Renew, Folders::Own);
                }
            }
            Verb::Reopen => plan.add(Task::Reopen, Folders::UserKeys),
            Verb::Rotate => plan.rotate(request),
        }
        plan
    }

    /// The next step; `failed`: the last one failed in one of its folders.
    pub(super) fn next(&mut self, failed: bool) -> Option<Step> {
        if let Some(last) = self.done.checked_sub(1) {
            let last = self.steps.get(last)?;
            let skipped = if failed {
                last.after_failure
            } else {
                last.after_success
            };
            self.done += skipped.unwrap_or(self.steps.len());
        }
        let step = self.steps.get(self.done)?.step;
        self.done += 1;
        Some(step)
    }

    /// The step that was begun last.
    pub(super) fn current(&self) -> Option<Step> {
        let last = self.done.checked_sub(1)?;
        self.steps.get(last).map(|planned| planned.step)
    }

    fn generate(&mut self, request: &Request) {
        if request.user_key && request.force {
            self.check_new_user_key();
        }
        // The user key comes first: folder keys are under it.
        let task = if request.user_key {
            Task::Generate
        } else {
            Task::FirstUserKey
        };
        self.add_essential(task, Folders::UserKeys);
        if request.rekey {
            self.move_folder_keys();
        } else if !request.user_key {
            self.add(Task::Generate, Folders::Masks);
        }
    }

    fn check_new_user_key(&mut self) {
        self.add_essential(Task::CheckNewUserKey, Folders::Own);
        self.add_essential(Task::CheckNewUserKey, Folders::UserKeys);
    }

    fn move_folder_keys(&mut self) {
        self.add(Task::Rekey, Folders::Own);
        self.add(Task::Rekey, Folders::UserKeys);
    }

    fn rotate(&mut self, request: &Request) {
        self.add_essential(Task::CheckRotation, Folders::UserKeys);
        self.check_new_user_key();
        self.add_essential(Task::Generate, Folders::UserKeys);
        self.move_folder_keys();
        if request.folders {
            self.add(Task::Generate, Folders::Own);
        }
    }

    fn delete(&mut self, request: &Request, number: usize) {
        let check = if request.user_key {
            (Task::CheckFolder, Folders::All)
        } else {
            // mdbox may have put mail under the key into another folder.
            (Task::CheckMails, Folders::Own)
        };
        let check = Some(check).filter(|_| !request.force);
        let rest = if check.is_some() { 3 } else { 2 };
        self.push(
            Task::BeginDeletion(number),
            one(request),
            (Some(0), Some(rest)),
        );
        if let Some((task, folders)) = check {
            self.push(task, folders, (Some(0), Some(1)));
        }
        self.push(Task::Delete, one(request), (Some(1), Some(0)));
        self.add(Task::UndoDeletion, one(request));
    }

    /// Whatever becomes of it, the next steps are taken.
    fn add(&mut self, task: Task, folders: Folders) {
        self.push(task, folders, (Some(0), Some(0)));
    }

    /// Where it fails, nothing else is done.
    fn add_essential(&mut self, task: Task, folders: Folders) {
        self.push(task, folders, (Some(0), None));
    }

    fn push(
        &mut self,
        task: Task,
        folders: Folders,
        (after_success, after_failure): (Option<usize>, Option<usize>),
    ) {
        self.steps.push(Planned {
            step: Step { task, folders },
            after_success,
            after_failure,
        });
    }
}

/// For commands about one folder, or the user's own keys.
fn one(request: &Request) -> Folders {
    if request.user_key {
        Folders::UserKeys
    } else {
        Folders::Named
    }
}

#[cfg(test)]
mod tests;
