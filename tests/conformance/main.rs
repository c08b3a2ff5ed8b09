//! What every engine has to do, asked through the `Engine` trait alone, once per engine.
//!
//! Docker is where `DOCKER_HOST` says, else at its usual socket; the images are `coracle/guest` and `coracle/tiny`.
//! Without them the tests fail: a suite that skips proves nothing. Each test labels its containers with an instance
//! id of its own and fails if one is left.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod accidents;
mod behaviours;
mod faltering;
mod forwards;
mod harness;
mod launches;
mod logins;
mod measured;
#[path = "../it/harness/ports.rs"]
mod ports;
mod proxy;
mod pulls;
mod registry;
mod remote;
mod retries;
mod signals;
mod terminals;
mod tls;
mod warm;

/// Makes a test of each behaviour for each of the engines that it is listed with.
macro_rules! conformance {
    ($($engines:tt: $behaviours:tt)*) => {
        $(for_each_engine! { $engines $behaviours })*
    };
}

macro_rules! for_each_engine {
    ([$($engine:ident)*] $behaviours:tt) => {
        $(for_each_behaviour! { $engine $behaviours })*
    };
}

macro_rules! for_each_behaviour {
    ($engine:ident {$($module:ident::$test:ident)*}) => {
        mod $engine {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::harness::on(crate::harness::$engine(), crate::$module::$test).await;
            })*
        }
    };
}

conformance! {
    [guest guest_by_init guest_by_remote_init]: {
        behaviours::a_command_runs_and_its_output_arrives
        behaviours::the_exit_status_is_the_programs
        behaviours::stdout_and_stderr_stay_apart_and_complete
        behaviours::the_end_of_stdin_is_not_the_end_of_the_program
        behaviours::a_shell_runs_the_command
        behaviours::a_missing_program_is_127_with_a_message
        behaviours::a_missing_file_to_run_is_127_with_a_message
        behaviours::a_killed_program_is_told_as_killed
        behaviours::a_child_in_the_background_does_not_hold_the_session
        behaviours::all_output_comes_before_the_exit_status
        behaviours::bytes_survive_the_way_there_and_back
        behaviours::a_command_need_not_be_utf8
        behaviours::variables_reach_one_program_and_not_the_next
        behaviours::user_home_and_shell_are_set
        behaviours::nothing_of_the_login_leaks
        behaviours::a_login_shell_reads_its_commands
        behaviours::arguments_are_passed_as_they_are
        behaviours::many_programs_run_at_once
        behaviours::the_end_is_seen_while_output_waits
        terminals::a_terminal_is_one
        terminals::the_first_size_is_there_at_once
        terminals::a_new_size_is_seen
        terminals::terminal_modes_reach_the_program
        terminals::output_of_a_terminal_is_unchanged
        terminals::no_key_detaches_and_none_is_held_back
        terminals::the_end_of_stdin_does_not_end_a_terminal
        terminals::a_control_character_interrupts
        signals::a_trap_gets_its_signal_in_time
        signals::a_signal_ends_the_whole_group
        signals::a_signal_arrives_after_the_end_of_stdin
        signals::a_program_that_has_ended_takes_any_signal
        launches::containers_are_labelled_and_gone_after_removal
        launches::what_programs_change_is_told_for_as_long_as_there_is_a_container
        launches::a_container_that_is_gone_says_so
        launches::a_container_can_be_taken_up_by_its_id
        launches::an_abandoned_launch_leaves_nothing
        launches::removing_twice_is_fine
        warm::a_container_takes_a_new_name_and_runs_on
        warm::an_image_has_one_id_until_it_is_updated
        warm::a_launch_waits_for_its_turn_and_can_be_called_off_meanwhile
    }
    [guest_by_exec]: {
        signals::a_trap_gets_its_signal_in_time
        signals::a_signal_ends_the_whole_group
        signals::a_signal_arrives_after_the_end_of_stdin
        signals::a_program_that_has_ended_takes_any_signal
        signals::a_daemon_left_behind_is_not_the_program
    }
    [tiny tiny_by_init tiny_by_remote_init]: {
        behaviours::a_command_runs_and_its_output_arrives
        behaviours::the_exit_status_is_the_programs
        behaviours::stdout_and_stderr_stay_apart_and_complete
        behaviours::the_end_of_stdin_is_not_the_end_of_the_program
        behaviours::a_shell_runs_the_command
        behaviours::a_missing_program_is_127_with_a_message
        behaviours::a_missing_file_to_run_is_127_with_a_message
        behaviours::a_killed_program_is_told_as_killed
        behaviours::bytes_survive_the_way_there_and_back
        behaviours::a_command_need_not_be_utf8
        behaviours::user_home_and_shell_are_set
        behaviours::nothing_of_the_login_leaks
        behaviours::a_login_shell_reads_its_commands
        behaviours::arguments_are_passed_as_they_are
        terminals::a_terminal_is_one
        terminals::the_first_size_is_there_at_once
        terminals::a_new_size_is_seen
        terminals::terminal_modes_reach_the_program
        terminals::output_of_a_terminal_is_unchanged
        terminals::the_end_of_stdin_does_not_end_a_terminal
        signals::a_trap_gets_its_signal_in_time
        signals::a_signal_ends_the_whole_group
        launches::containers_are_labelled_and_gone_after_removal
    }
    [missing]: {
        warm::an_image_that_is_not_there_has_no_id
    }
    [tiny_by_exec]: {
        signals::a_trap_gets_its_signal_in_time
        signals::a_signal_ends_the_whole_group
        signals::a_program_that_has_ended_takes_any_signal
    }
    [fake]: {
        behaviours::a_command_runs_and_its_output_arrives
        behaviours::the_exit_status_is_the_programs
        behaviours::stdout_and_stderr_stay_apart_and_complete
        behaviours::the_end_of_stdin_is_not_the_end_of_the_program
        behaviours::a_shell_runs_the_command
        behaviours::a_missing_program_is_127_with_a_message
        behaviours::bytes_survive_the_way_there_and_back
        behaviours::variables_reach_one_program_and_not_the_next
        behaviours::user_home_and_shell_are_set
        behaviours::a_login_shell_reads_its_commands
        behaviours::arguments_are_passed_as_they_are
        terminals::the_first_size_is_there_at_once
        terminals::a_new_size_is_seen
        terminals::output_of_a_terminal_is_unchanged
        terminals::the_end_of_stdin_does_not_end_a_terminal
        signals::a_program_that_has_ended_takes_any_signal
        launches::containers_are_labelled_and_gone_after_removal
        launches::a_container_that_is_gone_says_so
        launches::a_container_can_be_taken_up_by_its_id
        launches::an_abandoned_launch_leaves_nothing
        launches::removing_twice_is_fine
        warm::a_container_takes_a_new_name_and_runs_on
        warm::an_image_has_one_id_until_it_is_updated
        warm::a_launch_waits_for_its_turn_and_can_be_called_off_meanwhile
    }
}

/// Sockets inside containers.
mod sockets {
    conformance! {
        [guest_by_helper guest_by_init guest_by_remote_init tiny_by_helper tiny_by_init tiny_by_remote_init]: {
            forwards::each_side_says_all_and_ends_by_itself
            forwards::nobody_there_is_told_as_that
            forwards::what_is_killed_or_dropped_ends_on_the_other_side
            forwards::a_program_inside_is_taken_in_until_nothing_listens
            forwards::an_agents_socket_and_a_displays_cookie_are_the_users_alone
            forwards::neighbours_are_spared
            forwards::connections_end_with_their_container
        }
        [narrow_by_helper narrow_by_init narrow_by_remote_init]: {
            forwards::sockets_need_no_network_and_no_root
        }
        [tiny]: {
            forwards::a_container_without_a_helper_says_so
        }
    }
}

/// What looks after them where the engine starts programs.
mod helpers {
    conformance! {
        [guest_by_helper tiny_by_helper]: {
            forwards::the_end_of_the_helper_ends_its_connections_alone
            forwards::a_container_that_is_taken_up_again_has_its_helper
        }
    }
}
