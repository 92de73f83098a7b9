//! Which keys and folders a command is about, and in which order.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

/// What the administrator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `cryptokey generate`
    Generate,
    /// `cryptokey list`
    List,
    /// `cryptokey export`
    Export,
    /// `cryptokey password`, which takes no steps: see [`super::password()`].
    Password,
    /// `cryptokey import`
    Import,
    /// `cryptokey delete`
    Delete,
}

/// A command with its parameters.
pub struct Request {
    /// The command.
    pub verb: Verb,
    /// `-U`: it is about the user's own keys.
    pub user_key: bool,
    /// `-R`: folder keys are put under the active user key.
    pub rekey: bool,
    /// `-f`
    pub force: bool,
    /// One of the masks stands for all folders.
    pub all: bool,
    /// The keys to delete.
    pub key_ids: Vec<String>,
    /// The key to import.
    pub key: Zeroizing<Vec<u8>>,
}

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
        match request.verb {
            Verb::Generate => plan.generate(request),
            Verb::List => {
                plan.add(Task::List, keys);
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
            Verb::Password => {}
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
            self.add_essential(Task::CheckNewUserKey, Folders::Own);
            self.add_essential(Task::CheckNewUserKey, Folders::UserKeys);
        }
        // The user key comes first: folder keys are under it.
        let task = if request.user_key {
            Task::Generate
        } else {
            Task::FirstUserKey
        };
        self.add_essential(task, Folders::UserKeys);
        if request.rekey {
            self.add(Task::Rekey, Folders::Own);
            self.add(Task::Rekey, Folders::UserKeys);
        } else if !request.user_key {
            self.add(Task::Generate, Folders::Masks);
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
mod tests {
    use super::*;

    fn request(verb: Verb) -> Request {
        Request {
            verb,
            user_key: false,
            rekey: false,
            force: false,
            all: false,
            key_ids: Vec::new(),
            key: Zeroizing::default(),
        }
    }

    /// The steps of `request` where those that `fails` picks fail.
    fn steps(request: &Request, fails: impl Fn(Task) -> bool) -> Vec<(Task, Folders)> {
        let mut plan = Plan::new(request);
        let mut steps = Vec::new();
        let mut failed = false;
        while let Some(step) = plan.next(failed) {
            assert_eq!(plan.current(), Some(step));
            steps.push((step.task, step.folders));
            failed = fails(step.task);
        }
        assert_eq!(plan.next(false), None);
        steps
    }

    #[test]
    fn folders_get_keys_once_the_user_has_one() {
        let generate = request(Verb::Generate);
        let first = (Task::FirstUserKey, Folders::UserKeys);
        let all = steps(&generate, |_| false);
        assert_eq!(all, [first, (Task::Generate, Folders::Masks)]);
        assert_eq!(steps(&generate, |t| t == Task::FirstUserKey), [first]);
    }

    #[test]
    fn a_new_user_key_is_made_only_where_it_leaves_no_key_behind() {
        let generate = Request {
            user_key: true,
            force: true,
            rekey: true,
            ..request(Verb::Generate)
        };
        let all = [
            (Task::CheckNewUserKey, Folders::Own),
            (Task::CheckNewUserKey, Folders::UserKeys),
            (Task::Generate, Folders::UserKeys),
            (Task::Rekey, Folders::Own),
            (Task::Rekey, Folders::UserKeys),
        ];
        assert_eq!(steps(&generate, |_| false), all);
        assert_eq!(steps(&generate, |t| t == Task::Rekey), all);
        assert_eq!(steps(&generate, |t| t == Task::CheckNewUserKey), all[..1]);
        assert_eq!(steps(&generate, |t| t == Task::Generate), all[..3]);
        let unforced = Request {
            force: false,
            rekey: false,
            ..generate
        };
        assert_eq!(steps(&unforced, |_| false), all[2..3]);
    }

    #[test]
    fn rekeying_alone_makes_no_folder_keys() {
        let rekey = Request {
            rekey: true,
            ..request(Verb::Generate)
        };
        let all = [
            (Task::FirstUserKey, Folders::UserKeys),
            (Task::Rekey, Folders::Own),
            (Task::Rekey, Folders::UserKeys),
        ];
        assert_eq!(steps(&rekey, |_| false), all);
    }

    #[test]
    fn only_a_list_of_all_folders_shows_what_has_none() {
        let list = (Task::List, Folders::Masks);
        assert_eq!(steps(&request(Verb::List), |_| false), [list]);
        let all = Request {
            all: true,
            ..request(Verb::List)
        };
        let without = (Task::ListWithoutFolder, Folders::UserKeys);
        assert_eq!(steps(&all, |_| false), [list, without]);
        let user = Request {
            user_key: true,
            ..all
        };
        assert_eq!(steps(&user, |_| false), [(Task::List, Folders::UserKeys)]);
    }

    #[test]
    fn a_key_is_deleted_once_nothing_needs_it_and_else_taken_back() {
        let ids = ["a", "b"].map(str::to_owned).to_vec();
        let folder = Request {
            key_ids: ids,
            ..request(Verb::Delete)
        };
        let of = |n| {
            [
                (Task::BeginDeletion(n), Folders::Named),
                (Task::CheckMails, Folders::Own),
                (Task::Delete, Folders::Named),
                (Task::UndoDeletion, Folders::Named),
            ]
        };
        let [first, second] = [of(0), of(1)];
        let done = [&first[..3], &second[..3]].concat();
        assert_eq!(steps(&folder, |_| false), done);
        let refused = [&first[..2], &first[3..], &second[..2], &second[3..]].concat();
        assert_eq!(steps(&folder, |t| t == Task::CheckMails), refused);
        let undone = [first, second].concat();
        assert_eq!(steps(&folder, |t| t == Task::Delete), undone);
        let missing = [&first[..1], &second[..3]].concat();
        assert_eq!(steps(&folder, |t| t == Task::BeginDeletion(0)), missing);

        let user = Request {
            user_key: true,
            key_ids: vec!["a".to_owned()],
            ..folder
        };
        let check = (Task::CheckFolder, Folders::All);
        assert_eq!(steps(&user, |_| false).get(1), Some(&check));
        let forced = Request {
            force: true,
            ..user
        };
        let unchecked = [
            (Task::BeginDeletion(0), Folders::UserKeys),
            (Task::Delete, Folders::UserKeys),
        ];
        assert_eq!(steps(&forced, |_| false), unchecked);
        assert_eq!(
            steps(&forced, |t| t == Task::BeginDeletion(0)),
            unchecked[..1]
        );
    }
}
