use std::sync::Mutex;

use super::*;

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Witness for Notes {
    fn hear(&self, event: &Event<'_>) {
        let line = format!("{:?} {}", event.user, serde_json::to_string(event.what).unwrap());
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn everybody_hears_of_everything_and_of_the_user_once_it_is_known() {
    let witnesses = [Arc::new(Notes::default()), Arc::new(Notes::default())];
    let events = Events::new(witnesses.iter().map(|it| Arc::clone(it) as Arc<dyn Witness>).collect());
    let teller = events.of_connection(ConnectionId::random(), "192.0.2.1:5".parse().unwrap());

    teller.tell(&Happening::Greeted { version: "SSH-2.0-x".to_owned(), after: Duration::from_millis(5) });
    teller.is_of("alice");
    teller.tell(&Happening::Ending { reason: "enough".to_owned() });

    for witness in witnesses {
        let notes = witness.0.lock().unwrap().clone();
        let expected = [
            r#"None {"event":"greeted","version":"SSH-2.0-x","seconds":0.005}"#,
            r#"Some("alice") {"event":"ending","reason":"enough"}"#,
        ];
        assert_eq!(notes, expected);
    }
}

#[test]
fn what_a_client_does_at_will_is_told_so_often_and_then_that_there_was_more() {
    let notes = Arc::new(Notes::default());
    let events = Events::new(vec![Arc::clone(&notes) as Arc<dyn Witness>]);
    let teller = events.of_connection(ConnectionId::random(), "192.0.2.1:5".parse().unwrap());

    for _ in 0..PETTY_MAX * 3 {
        teller.tell(&Happening::Signaled { session: 1, signal: "INT" });
    }
    teller.tell(&Happening::Ending { reason: "enough".to_owned() });

    let notes = notes.0.lock().unwrap().clone();
    assert_eq!(notes.len(), PETTY_MAX as usize + 2);
    assert!(notes[PETTY_MAX as usize].contains(r#""limit":"events""#), "{notes:?}");
    assert!(notes[PETTY_MAX as usize + 1].contains("ending"), "{notes:?}");
}
