"""Logins that no sane client tries. Prints the server's answers."""
import os
import sys
import time
import base64
import struct
import hashlib
import statistics
import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from userauth import Connection, message

host, port, user, key, case = sys.argv[1:6]
arguments = sys.argv[6:]


def load(path):
    return paramiko.Ed25519Key.from_private_key_file(path)


def wrong_passwords(name):
    """As many as the server hears, on one connection."""
    connection = Connection(host, port)
    answer = ""
    while not answer.startswith(("disconnect", "closed")):
        answer = connection.password(name, "wrong")
        print(answer)


def password_times(known, unknown, rounds):
    """Median times in milliseconds until a wrong password is refused, measured in turn."""
    times = {known: [], unknown: []}
    for _ in range(int(rounds)):
        for name, taken in times.items():
            connection = Connection(host, port)
            begun = time.perf_counter()
            answer = connection.password(name, "wrong")
            taken.append((time.perf_counter() - begun) * 1000)
            if not answer.startswith("failure"):
                sys.exit(answer)
            connection.transport.close()
    print(*(statistics.median(taken) for taken in times.values()))


def another_key_than_offered(other):
    """Offers the client's key, signs with another."""
    connection = Connection(host, port)
    known = load(key)
    print(connection.offer(user, known.get_name(), known.asbytes()))
    print(connection.sign_with(user, load(other)))
    print(connection.run("echo ${WHO-nobody} ${SSH_ORIGINAL_COMMAND-free}"))


def signature_of_another(other):
    """Offers the client's key and claims it with a signature of another."""
    connection = Connection(host, port)
    known, signer = load(key), load(other)
    print(connection.offer(user, known.get_name(), known.asbytes()))
    print(connection.sign(user, known.get_name(), known.asbytes(), lambda data: signer.sign_ssh_data(data).asbytes()))


def another_name_midway(first, second, password):
    """One user's key, another's password, then all of the second's."""
    connection = Connection(host, port)
    print(connection.sign_with(first, load(key)))
    print(connection.password(second, password))
    print(connection.password(first, "any"))
    print(connection.sign_with(second, load(key)))
    print(connection.password(second, password))
    print(connection.run("echo $USER"))


def probed_as_another(first, second):
    """A key that was offered as one user's and is signed as another's."""
    connection = Connection(host, port)
    known = load(key)
    print(connection.offer(first, known.get_name(), known.asbytes()))
    print(connection.sign_with(second, known))


def codes_out_of_turn(name, *codes):
    """The code before the key, and after it."""
    for code in codes:
        connection = Connection(host, port)
        print(connection.code(name, code))
        print(connection.sign_with(name, load(key)))
        print(connection.code(name, code))
        connection.transport.close()


def named_on_stdin():
    """A name given in hexadecimal, so that it may have any bytes; with a key that is known, then with a password."""
    name = bytes.fromhex(sys.stdin.read())
    connection = Connection(host, port)
    print(connection.sign_with(name, load(key)))
    print(connection.password(name, "wrong"))


def named(hexadecimal):
    """The same with a name that lets in, which stays until standard input ends. OpenSSH's client refuses some itself."""
    connection = Connection(host, port)
    assert connection.sign_with(bytes.fromhex(hexadecimal), load(key)) == "success"
    print(connection.run('printf "%s|%s" "$USER" "$LOGNAME"'), flush=True)
    sys.stdin.read()
    connection.transport.close()


def bring(connection, name, path):
    algorithm, blob = open(path + "-cert.pub").read().split()[:2]
    return connection.sign(name, algorithm, base64.b64decode(blob), lambda data: load(path).sign_ssh_data(data).asbytes())


def certificate(name, path):
    """Brings a certificate forward that OpenSSH's client would not."""
    print(bring(Connection(host, port), name, path))


def key_and_certificates(name, *paths):
    """The client's key and then one certificate after the other."""
    connection = Connection(host, port)
    print(connection.sign_with(name, load(key)))
    for path in paths:
        print(bring(connection, name, path))
    print(connection.run("echo free"))


def rsa_of(bits):
    """A public key without a private half: an odd number of that size."""
    modulus = int.from_bytes(hashlib.shake_128(b"rsa").digest(bits // 8), "big") | 1 | 1 << (bits - 1)
    blob = paramiko.Message()
    blob.add_string("ssh-rsa")
    blob.add_mpint(65537)
    blob.add_mpint(modulus)
    return blob.asbytes()


def rsa_line(bits):
    print("ssh-rsa", base64.b64encode(rsa_of(int(bits))).decode())


def rsa(bits):
    """Offers it, then claims it with a signature that is none; and the milliseconds for that, the least of three."""
    blob = rsa_of(int(bits))
    fake = message(0, "rsa-sha2-512", os.urandom(int(bits) // 8)).asbytes()[1:]
    answers, times = set(), []
    for _ in range(3):
        connection = Connection(host, port)
        offered = connection.offer(user, "rsa-sha2-512", blob)
        begun = time.perf_counter()
        claimed = connection.sign(user, "rsa-sha2-512", blob, lambda _: fake)
        times.append((time.perf_counter() - begun) * 1000)
        answers.add((offered, claimed))
        connection.transport.close()
    [(offered, claimed)] = answers
    print(offered, claimed, min(times), sep="\n")


SK = "sk-ssh-ed25519@openssh.com"


def sk_blob():
    """A hardware key whose private half is known: the seed is its name."""
    private = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"token").digest())
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return private, message(0, SK, public, "ssh:").asbytes()[1:]


def sk_line():
    print(SK, base64.b64encode(sk_blob()[1]).decode())


def sk(how):
    """Signs as a token does: over hashes, its flags and its counter (PROTOCOL.u2f)."""
    private, blob = sk_blob()
    if how == "forged":
        private = ed25519.Ed25519PrivateKey.generate()
    flags = bytes([how != "untouched"]) + struct.pack(">I", 7)

    def signed(data):
        digest = hashlib.sha256(b"ssh:").digest() + flags + hashlib.sha256(data).digest()
        return message(0, SK, private.sign(digest)).asbytes()[1:] + flags

    connection = Connection(host, port)
    print(connection.offer(user, SK, blob))
    answer = connection.sign(user, SK, blob, signed)
    print(answer)
    if answer == "success":
        print(connection.run("echo in"))


globals()[case](*arguments)
