//! The second look, under the lock, at what may have changed since the first.

use super::{Alice, delete, error, set, user};
use crate::ErrorKind;
use crate::store::acl::updated;

#[test]
fn nobody_is_asked_about_twice_and_who_came_in_between_is_not_forgotten() {
    let mut alice = Alice::new(&[]);
    alice.acl = updated(&alice.acl, &set(user("bob"), true));
    let mut first = alice.look(None).unwrap();
    alice.ask(&mut first).unwrap();
    assert_eq!(alice.asked, ["bob"]);
    // One more reader and one more key, before the lock is taken.
    alice.acl = updated(&alice.acl, &set(user("eve"), true));
    alice.add_key();
    let mut second = alice.look(None).unwrap().knowing(first);
    alice.ask(&mut second).unwrap();
    assert_eq!(alice.asked, ["bob", "eve"]);
    second
        .apply(&mut alice.ring, &mut alice.folder, &mut alice.session)
        .unwrap();
    assert_eq!(alice.keys().len(), 2);
    for name in ["bob", "eve"] {
        assert_eq!(alice.given(name), alice.keys());
    }
}

#[test]
fn who_stopped_reading_in_between_gets_nothing() {
    let mut alice = Alice::new(&[]);
    alice.acl = updated(&alice.acl, &set(user("bob"), true));
    let mut first = alice.look(None).unwrap();
    alice.ask(&mut first).unwrap();
    alice.acl = updated(&alice.acl, &delete(user("bob")));
    let mut second = alice.look(None).unwrap().knowing(first);
    alice.ask(&mut second).unwrap();
    second
        .apply(&mut alice.ring, &mut alice.folder, &mut alice.session)
        .unwrap();
    assert!(alice.shared().is_empty());
}

#[test]
fn an_answer_that_did_not_matter_is_asked_for_again_when_it_does() {
    let mut alice = Alice::new(&[]);
    let nobody = user("nobody");
    alice.acl = updated(&alice.acl, &set(nobody.clone(), true));
    let mut first = alice.look(Some(delete(nobody.clone()))).unwrap();
    alice.ask(&mut first).unwrap();
    let mut second = alice.look(Some(set(nobody, true))).unwrap().knowing(first);
    assert_eq!(error(alice.ask(&mut second)).0, ErrorKind::NoKey);
}
