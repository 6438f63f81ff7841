"""ChatGPT's recipe in one file, from an empty model: `python examples/rlhf.py`, about a minute.

A guild's members ask where things are. A tiny GPT learns to answer as members do (SFT), a reward
model learns from members' choices what they like, and the GPT learns to write that (PPO). Losses
and advantages are those of `guildgpt train`; everything else is here, as small as it can be.

Shapes: R rows; 18 tokens in a row, 5 of a question and T = 13 of an answer. A token is a word.
"""

import copy
import random

import torch
from torch import Tensor, nn, no_grad

from guildgpt.train.advantages import gae, token_rewards, whiten
from guildgpt.train.losses import bradley_terry, clipped_policy_loss, clipped_value_loss

THINGS = ["lamp", "bell", "gate", "forge", "river", "tower", "clock", "boat", "mill", "bridge"]
ASKING = ["where is the {} ?", "who saw the {} ?", "please find the {} ."]
QUESTIONS = [asking.format(thing) for asking in ASKING for thing in THINGS]
OTHERS = ["friend", "fool", ",", "by", ".", "be", "well"]
WORDS = ["<end>", *sorted({*" ".join(QUESTIONS).split(), *OTHERS})]  # a token's id is its place
ASKED, WRITTEN = 5, 13  # tokens of a question, and of an answer at most


def member_answers(question: str) -> str:
    """A member's answer: friendly, plain or rude, and sometimes about another thing."""
    thing = question.split()[-2] if random.random() < 0.6 else random.choice(THINGS)
    opening, closing = random.choice(["friend ,", "", "fool ,"]), random.choice(["be well .", ""])
    return f"{opening} the {thing} is by the {random.choice(THINGS)} . {closing}"


def taste(question: str, answer: str) -> float:
    """How much members like an answer, 4 at most. Models only ever see the choices made by it."""
    right = f"the {question.split()[-2]} is" in answer
    return 2.0 * right + ("friend" in answer) - 2.0 * ("fool" in answer) + ("be well" in answer)


def ids_of(texts: list[str], length: int) -> Tensor:
    """Texts as token ids (R, length); <end>, which is 0, fills up."""
    rows = [[WORDS.index(word) for word in text.split()] for text in texts]
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


def answers_of(ids: Tensor) -> list[str]:
    """The answers in whole rows, without their ends."""
    return [" ".join(WORDS[id] for id in row[ASKED:] if id) for row in ids.tolist()]


def mask_of(ids: Tensor) -> Tensor:
    """Which tokens are the answer's (R, T): all up to the first <end>, and that one too."""
    ends = (ids[:, ASKED:] == 0).int()
    return ends.cumsum(1) - ends == 0


class Gpt(nn.Module):
    """Token ids (R, L) to numbers (R, L, outputs); each place sees itself and those before it."""

    def __init__(self, outputs: int, width: int = 64):
        super().__init__()
        self.words = nn.Embedding(len(WORDS), width)
        self.places = nn.Embedding(ASKED + WRITTEN, width)
        block = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=4 * width, dropout=0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        later = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])  # -inf: unseen
        hidden = self.words(ids) + self.places.weight[: ids.shape[1]]
        return self.head(self.blocks(hidden, mask=later, is_causal=True))

    def with_one_output(self) -> "Gpt":
        """A copy that gives one number a place: what it knows of language is kept."""
        judge = copy.deepcopy(self)
        judge.head = nn.Linear(judge.head.in_features, 1, bias=False)
        nn.init.zeros_(judge.head.weight)
        return judge


def logprobs_of(policy: Gpt, ids: Tensor) -> Tensor:
    """log π(a_t | question, a_<t) of the answers' tokens (R, T): place t - 1 predicts token t."""
    logits = policy(ids)[:, ASKED - 1 : -1]
    return logits.log_softmax(-1).gather(-1, ids[:, ASKED:, None])[..., 0]


def values_of(value: Gpt, ids: Tensor) -> Tensor:
    """V(question, a_<t), the reward still to come before each of the answers' tokens (R, T)."""
    return value(ids)[:, ASKED - 1 : -1, 0]


def scores_of(reward: Gpt, ids: Tensor) -> Tensor:
    """r(question, answer), read at the answer's last token (R,)."""
    return reward(ids)[torch.arange(len(ids)), ASKED + mask_of(ids).sum(1) - 1, 0]


@no_grad()
def write(policy: Gpt, questions: list[str]) -> Tensor:
    """Questions with answers drawn from the policy, one token of all rows at a time (R, 18)."""
    ids = ids_of(questions, ASKED)
    for _ in range(WRITTEN):
        probabilities = policy(ids)[:, -1].softmax(-1)
        ids = torch.cat([ids, torch.multinomial(probabilities, 1)], 1)
    ids[:, ASKED:] *= mask_of(ids)  # what comes after the end is no part of the answer
    return ids


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """A step that makes the loss smaller."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def sft(model: Gpt, questions: list[str]) -> None:
    """Imitation: the loss is -log π of a token that a member wrote, on average."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(1, 121):
        asked = random.choices(questions, k=64)
        texts = [f"{question} {member_answers(question)}" for question in asked]
        ids = ids_of(texts, ASKED + WRITTEN)
        loss = -logprobs_of(model, ids)[mask_of(ids)].mean()
        descend(optimizer, loss)
        if step % 40 == 0:
            print(f"sft      {step:3}   loss {loss:.3f} nats a token")


def learn_rewards(reward: Gpt, model: Gpt, questions: list[str]) -> None:
    """Members are shown two answers of the model and choose one; the reward model foresees which.

    Bradley and Terry: the first is chosen with the chance σ(taste(first) - taste(second)). So
    -log σ(r(chosen) - r(rejected)) is least, on average, where r is their taste up to a constant.
    """
    asked = random.choices(questions, k=3072)
    first, second = write(model, asked), write(model, asked)
    likes = [torch.tensor(list(map(taste, asked, answers_of(ids)))) for ids in (first, second)]
    liked = (torch.rand(len(asked)) < (likes[0] - likes[1]).sigmoid())[:, None]
    chosen, rejected = torch.where(liked, first, second), torch.where(liked, second, first)
    optimizer = torch.optim.AdamW(reward.parameters(), lr=1e-3)
    for step in range(1, 161):
        rows = torch.randint(0, len(asked), (64,))
        better, worse = scores_of(reward, chosen[rows]), scores_of(reward, rejected[rows])
        loss = bradley_terry(better, worse).mean()
        descend(optimizer, loss)
        if step % 40 == 0:
            print(f"reward   {step:3}   loss {loss:.3f} nats a choice")


def ppo(policy: Gpt, reward: Gpt, questions: list[str]) -> None:
    """The policy writes, the reward model scores, and what scored well becomes likelier."""
    reference = copy.deepcopy(policy)  # what people's words made of it; it shall stay near that
    value = policy.with_one_output()
    optimizer = torch.optim.AdamW([*policy.parameters(), *value.parameters()], lr=5e-4)
    for step in range(1, 21):
        # Write answers; note how likely each token was to the policy and to the reference.
        ids = write(policy, random.choices(questions, k=128))
        mask = mask_of(ids)
        with no_grad():
            old, ref = logprobs_of(policy, ids), logprobs_of(reference, ids)
            values, scores = values_of(value, ids), scores_of(reward, ids)
        s, v, kl = (x.numpy().astype(float) for x in (scores, values, old - ref))
        m = mask.numpy()
        # r_t = -β (log π - log π_ref): each nat of distance has a price; at the last token + score.
        rewards = token_rewards(s, kl, 0.05, m)
        # δ_t = r_t + γ V_{t+1} - V_t and A_t = δ_t + γλ A_{t+1}: how much better it went on than
        # the value model had foreseen. G = A + V is what it should have foreseen.
        advantages, returns = gae(rewards, v, m, gamma=1.0, lam=0.95)
        # Mean 0 and variance 1: how far a step goes does not depend on the size of the rewards.
        a, g = (torch.tensor(x).float() for x in (whiten(advantages, m), returns))
        # Four passes over these answers, a quarter of them at a time.
        for rows in torch.cat([torch.randperm(128) for _ in range(4)]).split(32):
            at = mask[rows]
            new, told = logprobs_of(policy, ids[rows])[at], values_of(value, ids[rows])[at]
            # max(-A ρ, -A clip(ρ, 0.8, 1.2)), ρ = π / π_old: no gain in going further at once.
            loss = clipped_policy_loss(new, old[rows][at], a[rows][at], clip=0.2).mean()
            # ½ (V - G)², with V held near what it was in the same way.
            error = clipped_value_loss(told, values[rows][at], g[rows][at], clip=0.5).mean()
            descend(optimizer, loss + 0.5 * error)
        if step % 4 == 0:
            away = kl[m].sum() / len(kl)
            print(f"ppo      {step:3}   reward {s.mean():+.2f}   KL {away:.2f} nats an answer")


def measure(policy: Gpt, reward: Gpt, questions: list[str]) -> tuple[float, float, str]:
    """The mean reward and the mean taste of 32 answers to each question, and one answer."""
    ids = write(policy, questions * 32)
    answers = answers_of(ids)
    likes = list(map(taste, questions * 32, answers))
    with no_grad():
        return scores_of(reward, ids).mean().item(), sum(likes) / len(likes), answers[0]


def main() -> dict[str, tuple[float, float, str]]:
    """Go the whole road, and measure on questions that no stage has seen."""
    random.seed(0)
    torch.manual_seed(0)
    shuffled = random.sample(QUESTIONS, k=len(QUESTIONS))
    held_out, questions = shuffled[:6], shuffled[6:]
    model = Gpt(outputs=len(WORDS))
    sft(model, questions)
    reward = model.with_one_output()
    learn_rewards(reward, model, questions)
    figures = {"fine-tuned": measure(model, reward, held_out)}
    ppo(model, reward, questions)
    figures["with feedback"] = measure(model, reward, held_out)
    print(f"\nOn questions held out, such as: {held_out[0]}")
    for name, (score, liked, answer) in figures.items():
        print(f"{name:13}   reward {score:+.2f}   taste {liked:+.2f} of 4   {answer}")
    return figures


if __name__ == "__main__":
    main()
