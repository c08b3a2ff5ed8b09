# The other end of a forward, inside a container of any image with Perl. WHERE is HOST:PORT or a path.
#   listen WHERE HOW   prints `listening PORT`, then serves whoever calls (%how)
#   hole WHERE         prints `listening PORT`; whoever calls waits for good
#   dial WHERE         its input goes there, with its end; what comes from there is its output
# No single quote in here: it travels as the argument of `perl -e`.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;

$| = 1;
$SIG{PIPE} = q(IGNORE);
my ($what, $where, $how) = @ARGV;

sub calling {
    my ($at) = @_;
    return $at =~ m(^/) ? IO::Socket::UNIX->new(Peer => $at) : IO::Socket::INET->new(PeerAddr => $at);
}

sub listening {
    my ($queue) = @_;
    my $listener = $where =~ m(^/)
        ? IO::Socket::UNIX->new(Local => $where, Listen => $queue)
        : IO::Socket::INET->new(LocalAddr => $where, Listen => $queue, ReuseAddr => 1);
    $listener or die qq(listen on $where: $!\n);
    return ($listener, $where =~ m(^/) ? 0 : $listener->sockport);
}

if ($what eq q(dial)) {
    my $peer = calling($where) or do { print STDERR qq(dial $where: $!\n); exit 1 };
    my $child = fork;
    if ($child == 0) {
        while (sysread STDIN, my $bytes, 65536) {
            my $done = 0;
            $done += syswrite($peer, $bytes, length($bytes) - $done, $done) || exit 1 while $done < length $bytes;
        }
        $peer->shutdown(1);
        exit 0;
    }
    while (sysread $peer, my $bytes, 65536) { print $bytes }
    kill q(TERM), $child;
    exit 0;
}

if ($what eq q(hole)) {
    my ($listener, $port) = listening(1);
    # As many as its queue holds, and more than that: who comes later is not even answered.
    my @held = map { IO::Socket::INET->new(PeerAddr => qq(127.0.0.1:$port), Blocking => 0) } 1 .. 4;
    print qq(listening $port\n);
    sleep 1000;
}

# What each caller gets: `say` at first, `ends` after it; `echoes` what it says; `reads` nothing more.
my %how = (
    echo => { echoes => 1 },
    last => { say => qq(first words\n), ends => 1 },
    deaf => { deaf => 1 },
    flood => { floods => 1, echoes => 0 },
    http => { http => qq(HTTP/1.0 200 OK\r\n\r\nan answer\n) },
    agreed => { say => qq(agreed\n), echoes => 1 },
);
my $manner = $how{$how} or die qq(no such manner: $how\n);
my ($listener, $port) = listening(128);
print qq(listening $port\n);
my (%out, %over, %got);
my ($readers, $writers) = (IO::Select->new($listener), IO::Select->new);

sub finish {
    my ($peer) = @_;
    $readers->remove($peer);
    $writers->remove($peer);
    delete $_->{$peer} for \%out, \%over, \%got;
    close $peer;
}

while (1) {
    my ($can_read, $can_write) = IO::Select->select($readers, $writers, undef);
    for my $peer (@$can_read) {
        if ($peer == $listener) {
            my $caller = $listener->accept or next;
            $caller->blocking(0);
            ($out{$caller}, $got{$caller}) = ($manner->{say} // q(), 0);
            $readers->add($caller) unless $manner->{deaf};
            $writers->add($caller) if $manner->{say} or $manner->{floods};
            next;
        }
        my $count = sysread $peer, my $bytes, 65536;
        if (!defined $count) { finish($peer) unless $!{EAGAIN}; next }
        $got{$peer} += $count;
        if ($count == 0) {
            print qq(got $got{$peer} bytes\n) if $manner->{ends};
            $over{$peer} = 1;
            $readers->remove($peer);
            $writers->add($peer);
        } elsif ($manner->{http} and $bytes =~ m(\r\n\r\n)) {
            ($out{$peer}, $over{$peer}) = ($manner->{http}, 1);
            $writers->add($peer);
        } elsif ($manner->{echoes}) {
            $out{$peer} .= $bytes;
            $readers->remove($peer);
            $writers->add($peer);
        }
    }
    for my $peer (@$can_write) {
        next unless defined $out{$peer};
        $out{$peer} = q(0) x 65536 if $manner->{floods};
        if (length $out{$peer}) {
            my $count = syswrite $peer, $out{$peer};
            if (!defined $count) { finish($peer) unless $!{EAGAIN}; next }
            substr($out{$peer}, 0, $count) = q();
            next if length $out{$peer};
        }
        if ($over{$peer}) { finish($peer); next }
        next if $manner->{floods};
        $writers->remove($peer);
        if ($manner->{ends}) { $peer->shutdown(1) } else { $readers->add($peer) }
    }
}
