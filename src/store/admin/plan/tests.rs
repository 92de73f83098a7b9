use super::*;

fn request(verb: Verb) -> Request {
    Request {
        verb: Some(verb),
        ..Request::default()
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
