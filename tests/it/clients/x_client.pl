# An X client of the least kind: connects to $DISPLAY and sets up (X11 protocol, chapter 8). Its one argument is the cookie
# it shows: right, wrong or none. Prints `connected to VENDOR` and stays until the end of its input, or `refused`.
# No single quote in here: it travels as the argument of `perl -e`.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;

$| = 1;
my ($host, $number) = $ENV{DISPLAY} =~ m/^(.*):(\d+)(?:\.\d+)?$/ or die qq(DISPLAY is $ENV{DISPLAY}\n);
my $peer = $host =~ m/^(?:unix)?$/
    ? IO::Socket::UNIX->new(Peer => qq(/tmp/.X11-unix/X$number))
    : IO::Socket::INET->new(PeerAddr => $host, PeerPort => 6000 + $number);
$peer or die qq(connect to $ENV{DISPLAY}: $!\n);

my ($name, $cookie) = (q(), q());
open my $file, q(<:raw), $ENV{XAUTHORITY} // qq($ENV{HOME}/.Xauthority) or die qq(the cookies: $!\n);
my @entry;
my $field = sub { read $file, my $length, 2 or return; read $file, my $bytes, unpack q(n), $length; return $bytes };
while (read $file, my $family, 2) {
    my ($address, $display, $protocol, $data) = map { $field->() // q() } 1 .. 4;
    ($name, $cookie) = ($protocol, $data) if $display eq $number;
}
length $cookie == 16 or die qq(no cookie for $ENV{DISPLAY}\n);
$cookie ^= qq(\1) x 16 if $ARGV[0] eq q(wrong);
($name, $cookie) = (q(), q()) if $ARGV[0] eq q(none);

my $padded = sub { $_[0] . qq(\0) x (-length($_[0]) % 4) };
syswrite $peer, pack(q(axvvvvxx), q(l), 11, 0, length $name, length $cookie) . $padded->($name) . $padded->($cookie);
my $answer = q();
while (length $answer < 40 and sysread $peer, my $bytes, 65536) {
    $answer .= $bytes;
    last if ord $answer != 1;
}
if (length $answer >= 40 and ord $answer == 1) {
    print q(connected to ), substr($answer, 40, unpack q(v), substr $answer, 24, 2), qq(\n);
    1 while sysread STDIN, my $bytes, 1024;
} else {
    print qq(refused\n);
}
